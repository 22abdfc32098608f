"""What each token may do, over fake services."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from starlette.routing import Mount, Route
from talkies import tokens
from talkies.api import quotas, scopes
from talkies.api.quotas import Quotas
from talkies.errors import QuotaExceeded, RateLimited
from talkies.tokens import PERMISSIONS, Token

from harness.facade import Facade, assert_error, facade

MODEL = {"model": "whisper-base"}
AUDIO = {"file": ("a.wav", b"RIFF")}


def token(name: str, *allowed: str, **limits: Any) -> Token:
    return Token.model_validate(
        {"name": name, "sha256": tokens.sha256(name.encode()), "scopes": list(allowed), **limits}
    )


def with_tokens(tmp_path: Path, *made: Token) -> dict[str, Any]:
    tokens.save(tmp_path / "tokens.json", made)
    return {"auth_file": tmp_path / "tokens.json"}


def bearer(name: str) -> dict[str, str]:
    return {"authorization": f"Bearer {name}"}


async def ask(api: Facade, scope: str, name: str) -> httpx.Response:
    """A request that needs this scope."""
    headers = bearer(name)
    match scope:
        case "transcribe":
            return await api.client.post("/v1/audio/transcriptions", headers=headers, data=MODEL, files=AUDIO)
        case "speak":
            body = {"model": "kokoro-82m", "input": "Hi."}
            return await api.client.post("/v1/audio/speech", headers=headers, json=body)
        case "files":
            return await api.client.get("/v1/files", headers=headers)
        case _:
            return await api.client.post("/unload", headers=headers)


@pytest.mark.parametrize("scope", PERMISSIONS)
async def test_a_scope_opens_its_routes_and_no_other(tmp_path: Path, scope: str) -> None:
    async with facade(tmp_path, **with_tokens(tmp_path, token("mine", scope))) as api:
        for other in PERMISSIONS:
            response = await ask(api, other, "mine")
            if other == scope:
                assert response.status_code == 200
            else:
                assert_error(response, 403, f"'{other}'", code="insufficient_permissions")
        assert (await api.client.get("/v1/models", headers=bearer("mine"))).status_code == 200
        assert_error(await api.client.get("/v1/models", headers=bearer("other")), 401)


async def test_a_staged_file_needs_the_scope_of_files(tmp_path: Path) -> None:
    made = token("one", "transcribe"), token("both", "transcribe", "files")
    async with facade(tmp_path, **with_tokens(tmp_path, *made)) as api:
        data = {**MODEL, "file_path": "talks/one.flac"}
        for route in ("transcriptions", "translations"):
            refused = await api.client.post(f"/v1/audio/{route}", headers=bearer("one"), data=data)
            assert_error(refused, 403, "'files'")
        answer = await api.client.post("/v1/audio/transcriptions", headers=bearer("both"), data=data)
        assert answer.status_code == 200


def routes(app: Any) -> Iterator[tuple[str, str]]:
    """Method and a sample path of every route."""
    for route in app.openapi()["paths"].items():
        for method in route[1]:
            yield method.upper(), route[0].replace("{path}", "a/b").replace("{model_id}", "c/d")
    for route in app.routes:
        if isinstance(route, Route | Mount) and "{" not in route.path:
            yield from ((method, route.path) for method in getattr(route, "methods", None) or {"POST"})


async def test_every_route_has_a_scope(tmp_path: Path) -> None:
    async with facade(tmp_path) as api:
        found = set(routes(api.app)) - {("GET", "/healthz"), ("GET", "/readyz")}
    assert len(found) > 15
    assert [route for route in found if scopes.needed(*route) is None] == []


async def test_who_asks_too_often_waits(tmp_path: Path) -> None:
    made = token("slow", "files", requests_per_minute=3), token("other", "files")
    async with facade(tmp_path, **with_tokens(tmp_path, *made)) as api:
        answers = await asyncio.gather(*(ask(api, "files", "slow") for _ in range(5)))
        assert sorted(answer.status_code for answer in answers) == [200] * 3 + [429] * 2
        refused = next(answer for answer in answers if answer.status_code == 429)
        assert_error(refused, 429, "3 requests a minute", code="rate_limit_exceeded")
        assert 0 < int(refused.headers["retry-after"]) <= 60
        assert (await ask(api, "files", "other")).status_code == 200


async def test_audio_has_a_quota_that_a_running_request_may_pass(tmp_path: Path) -> None:
    made = token("small", "speak", audio_seconds_per_day=0.001)
    async with facade(tmp_path, **with_tokens(tmp_path, made)) as api:
        assert (await ask(api, "speak", "small")).status_code == 200
        refused = await ask(api, "speak", "small")
        assert_error(refused, 429, "for today", code="insufficient_quota")
        assert refused.headers["x-should-retry"] == "false" and int(refused.headers["retry-after"]) > 0


def test_usage_survives_a_restart_and_ends_with_the_day(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, limited = tmp_path / "usage.json", token("a", audio_seconds_per_day=10)
    first = Quotas(path)
    first.spend(limited, 10)
    first.save()
    again = Quotas(path)
    with pytest.raises(QuotaExceeded):
        again.admit(limited)
    monkeypatch.setattr(quotas, "_today", lambda: "2100-01-01")
    again.admit(limited)
    Quotas(path).admit(limited)
    path.write_text("[")
    Quotas(path).admit(limited)


@given(st.integers(1, 5), st.lists(st.floats(0, 40), max_size=40))
def test_the_rate_holds_in_every_minute(
    tmp_path_factory: pytest.TempPathFactory, rate: int, pauses: list[float]
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        now = 1000.0
        patch.setattr("talkies.api.quotas.time.monotonic", lambda: now)
        counted = Quotas(tmp_path_factory.getbasetemp() / "none.json")
        admitted: list[float] = []
        for pause in pauses:
            now += pause
            try:
                counted.admit(token("a", requests_per_minute=rate))
            except RateLimited as error:
                assert len([then for then in admitted if then > now - 60]) == rate
                assert 1 <= int(error.headers["Retry-After"]) <= 60
            else:
                admitted.append(now)
                assert len([then for then in admitted if then > now - 60]) <= rate
