"""Bearer tokens and CORS over fake services."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest
import structlog
from talkies import serve
from talkies.settings import Settings

from harness.facade import assert_error, facade

TOKENS = "first-token,zweites-Wort-ü"
GOOD = {"authorization": "Bearer first-token"}
ORIGIN = {"origin": "https://app.example"}


@pytest.mark.parametrize(
    "given",
    [
        None,
        b"",
        b"Bearer",
        b"Bearer ",
        b"Bearer wrong",
        b"Bearer first-toke",
        b"Bearer first-token2",
        b"Bearer first-token,zweites-Wort-\xc3\xbc",
        b"Bearer \xff\xfe\xfc",
        b"Basic first-token",
        b"first-token",
        b"Bearerfirst-token",
    ],
)
async def test_refused(tmp_path: Path, given: bytes | None) -> None:
    headers = {} if given is None else {b"authorization": given}
    async with facade(tmp_path, auth_token=TOKENS) as api:
        for method, path in (
            ("GET", "/v1/models"),
            ("GET", "/v1/audio/voices"),
            ("POST", "/v1/audio/transcriptions"),
            ("POST", "/v1/audio/speech"),
            ("GET", "/v1/files"),
            ("POST", "/v1/mcp"),
            ("GET", "/api/ps"),
            ("POST", "/unload"),
            ("GET", "/metrics"),
            ("GET", "/docs"),
            ("GET", "/openapi.json"),
            ("GET", "/no/such/path"),
            ("GET", "/v1/models/"),
            ("BREW", "/v1/models"),
        ):
            response = await api.client.request(method, path, headers=headers)
            assert_error(response, 401, code="invalid_api_key")
            assert response.headers["www-authenticate"] == "Bearer"


@pytest.mark.parametrize(
    "given", [b"Bearer first-token", b"bearer first-token", b"BEARER   first-token ", "Bearer zweites-Wort-ü".encode()]
)
async def test_let_in(tmp_path: Path, given: bytes) -> None:
    async with facade(tmp_path, auth_token=TOKENS) as api:
        response = await api.client.get("/v1/models", headers={b"authorization": given})
        assert response.status_code == 200
        assert_error(await api.client.get("/nothing", headers={b"authorization": given}), 404)


@pytest.mark.parametrize("name", ["api-key", "x-api-key", "X-API-Key"])
async def test_other_headers_for_a_key(tmp_path: Path, name: str) -> None:
    async with facade(tmp_path, auth_token=TOKENS) as api:
        assert (await api.client.get("/v1/models", headers={name: "first-token"})).status_code == 200
        assert (await api.client.get("/v1/models", headers={name: "second"})).status_code == 401
        both = {name: "first-token", "authorization": "Bearer wrong"}
        assert (await api.client.get("/v1/models", headers=both)).status_code == 401


async def test_two_headers_are_refused(tmp_path: Path) -> None:
    async with facade(tmp_path, auth_token=TOKENS) as api:
        response = await api.client.get("/v1/models", headers=[("authorization", "Bearer first-token")] * 2)
        assert response.status_code == 401


async def test_open_to_everyone(tmp_path: Path) -> None:
    async with facade(tmp_path, auth_token=TOKENS) as api:
        for path in ("/healthz", "/readyz"):
            assert (await api.client.get(path)).status_code == 200
        for path in ("/v1/models", "/v1/audio/speech", "/v1/mcp", "/nothing"):
            assert (await api.client.options(path)).status_code in (404, 405)


async def test_public_lists(tmp_path: Path) -> None:
    async with facade(tmp_path, auth_token=TOKENS, public_lists=True) as api:
        for path in ("/v1/models", "/v1/models/kokoro-82m", "/v1/audio/voices", "/v1/audio/models"):
            assert (await api.client.get(path)).status_code == 200
        assert (await api.client.post("/v1/models")).status_code == 401
        assert (await api.client.get("/v1/modelsx")).status_code == 401
        assert (await api.client.get("/api/ps")).status_code == 401
        assert (await api.client.post("/v1/audio/speech", json={})).status_code == 401


async def test_without_tokens_everyone_is_let_in(tmp_path: Path) -> None:
    async with facade(tmp_path) as api:
        assert (await api.client.get("/v1/models")).status_code == 200


def scope(kind: str, **headers: str) -> dict[str, Any]:
    return {
        "type": kind, "asgi": {"version": "3.0"}, "http_version": "1.1", "method": "POST", "scheme": kind,
        "path": "/v1/x", "raw_path": b"/v1/x", "query_string": b"", "root_path": "",
        "client": ("test", 1), "server": ("talkies", 80),
        "headers": [(name.encode(), value.encode()) for name, value in headers.items()],
    }  # fmt: skip


async def test_websockets_are_closed_before_they_open(tmp_path: Path) -> None:
    sent: list[Any] = []

    async def send(message: Any) -> None:
        sent.append(message)

    async def receive() -> Any:
        return {"type": "websocket.connect"}

    async with facade(tmp_path, auth_token=TOKENS) as api:
        await api.app(scope("websocket"), receive, send)
    assert sent == [{"type": "websocket.close", "code": 1008}]


@pytest.mark.parametrize(("headers", "read"), [({}, 4), ({"expect": "100-continue"}, 0)])
async def test_the_answer_comes_first_and_the_body_is_read_past(
    tmp_path: Path, headers: dict[str, str], read: int
) -> None:
    events: list[str] = []

    async def send(message: Any) -> None:
        events.append(f"{message['type']} {message.get('more_body')}")

    async def receive() -> Any:
        events.append("receive")
        return {"type": "http.request", "body": b"x" * 65536, "more_body": events.count("receive") < 4}

    async with facade(tmp_path, auth_token=TOKENS) as api:
        await asyncio.wait_for(api.app(scope("http", **headers), receive, send), 5)
    start = ["http.response.start None", "http.response.body True"]
    assert events == [*start, *["receive"] * read, "http.response.body None"]


async def test_tokens_are_in_no_log(tmp_path: Path) -> None:
    with structlog.testing.capture_logs() as lines:
        async with facade(tmp_path, auth_token=TOKENS) as api:
            await api.client.get("/v1/models?api_key=first-token", headers={"authorization": "Bearer guessed-token"})
            await api.client.get("/v1/models?api_key=first-token", headers=GOOD)
    assert [line["status"] for line in lines] == [401, 200]
    assert "-token" not in str(lines)


# --- CORS ------------------------------------------------------------------------------------------------------------


def preflight(api: Any, **headers: str) -> Any:
    asked = {"access-control-request-method": "POST", "access-control-request-headers": "authorization, x-stainless-os"}
    return api.client.options("/v1/audio/speech", headers={**ORIGIN, **asked, **headers})


async def test_no_cors_headers_unless_set(tmp_path: Path) -> None:
    async with facade(tmp_path) as api:
        for response in (await api.client.get("/v1/models", headers=ORIGIN), await preflight(api)):
            assert not [name for name in response.headers if name.startswith("access-control") or name == "vary"]


@pytest.mark.parametrize(
    ("origins", "allowed"), [("https://app.example,http://localhost:3000", ORIGIN["origin"]), ("*", "*")]
)
async def test_cors(tmp_path: Path, origins: str, allowed: str) -> None:
    async with facade(tmp_path, auth_token=TOKENS, cors_origins=origins) as api:
        response = await preflight(api)
        assert response.status_code == 200
        assert response.headers["access-control-allow-origin"] == allowed
        assert "authorization" in response.headers["access-control-allow-headers"]
        assert "POST" in response.headers["access-control-allow-methods"]
        assert response.headers["x-request-id"]

        api.synthesizer.failure = RuntimeError("boom")
        speech = {"model": "kokoro-82m", "input": "Hello."}
        answers = [
            await api.client.get("/v1/models", headers={**ORIGIN, **GOOD}),
            await api.client.get("/v1/models", headers=ORIGIN),
            await api.client.get("/nothing", headers={**ORIGIN, **GOOD}),
            await api.client.post("/v1/audio/speech", json=speech, headers={**ORIGIN, **GOOD}),
        ]
        assert [answer.status_code for answer in answers] == [200, 401, 404, 500]
        for answer in answers:
            assert answer.headers["access-control-allow-origin"] == allowed
            exposed = answer.headers["access-control-expose-headers"].lower()
            assert {"x-request-id", "x-sample-rate"} <= set(exposed.split(", "))


async def test_other_origins(tmp_path: Path) -> None:
    async with facade(tmp_path, cors_origins="https://app.example") as api:
        response = await preflight(api, origin="https://evil.example")
        assert_error(response, 400, "origin", "TALKIES_CORS_ORIGINS")
        assert "access-control-allow-origin" not in response.headers
        response = await api.client.get("/v1/models", headers={"origin": "https://evil.example"})
        assert "access-control-allow-origin" not in response.headers
        assert "Origin" in response.headers["vary"]


# --- who is warned ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("host", "strange"),
    [
        ("127.0.0.1", False), ("127.9.9.9", False), ("::1", False), ("localhost", False),
        ("0.0.0.0", True), ("::", True), ("192.168.1.5", True), ("speech.example", True),
    ],
)  # fmt: skip
@pytest.mark.parametrize("secret", ["", "secret"])
@pytest.mark.parametrize(("place", "key"), [("host", "auth_token"), ("grpc_host", "grpc_key")])
def test_warning_at_start(tmp_path: Path, host: str, strange: bool, place: str, key: str, secret: str) -> None:
    with structlog.testing.capture_logs() as lines:
        serve._warn_of_strangers(Settings.load(data_dir=tmp_path, **{place: host, key: secret}))
    assert [line["log_level"] for line in lines] == ["warning"] * (strange and not secret)
    assert all(f"TALKIES_{key.upper()}" in line["event"] for line in lines)


@pytest.mark.parametrize(("user", "container", "warned"), [(0, "", True), (0, "/", False), (1000, "", False)])
def test_warning_of_root(monkeypatch: pytest.MonkeyPatch, user: int, container: str, warned: bool) -> None:
    monkeypatch.setattr("os.geteuid", lambda: user)
    monkeypatch.setattr(serve, "_CONTAINER", (container,))
    with structlog.testing.capture_logs() as lines:
        serve._warn_of_root()
    assert bool(lines) == warned
