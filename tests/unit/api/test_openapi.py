"""The OpenAPI document: every route says what it answers, errors included."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from harness.facade import facade

ERROR = {"application/json": {"schema": {"$ref": "#/components/schemas/ErrorBody"}}}


@pytest.fixture
async def document(tmp_path: Path) -> dict[str, Any]:
    async with facade(tmp_path / "data") as api:
        return dict((await api.client.get("/openapi.json")).json())


def operations(document: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            yield f"{method.upper()} {path}", operation


HEALTH = {"GET /healthz", "GET /readyz"}


def test_every_error_has_the_one_shape(document: dict[str, Any]) -> None:
    for name, operation in operations(document):
        errors = {status: answer for status, answer in operation["responses"].items() if status >= "4"}
        assert {status: answer["content"] for status, answer in errors.items()} == dict.fromkeys(errors, ERROR), name


def test_every_route_but_health_may_want_a_token(document: dict[str, Any]) -> None:
    without = {name for name, operation in operations(document) if "401" not in operation["responses"]}
    assert without == HEALTH


@pytest.mark.parametrize("given", [{}, {"authorization": "Bearer wrong"}, {"authorization": "Basic sesame"}])
async def test_no_operation_does_anything_without_the_token(tmp_path: Path, given: dict[str, str]) -> None:
    async with facade(tmp_path / "data", auth_token="sesame") as api:
        document = (await api.client.get("/openapi.json", headers={"authorization": "Bearer sesame"})).json()
        names = [name.split() for name, _ in operations(document) if name not in HEALTH]
        assert len(names) > 12
        for method, path in names:
            filled = path.replace("{path}", "talks/one.flac").replace("{model_id}", "whisper-base")
            answer = await api.client.request(method, filled, headers=given, content=b"\xff{")
            assert (answer.status_code, answer.json()["error"]["code"]) == (401, "invalid_api_key"), (method, path)
        assert (api.settings.files / "talks" / "one.flac").read_bytes() == b"staged"
        assert api.residency.loaded == ["whisper-base"]


def test_every_success_says_its_types(document: dict[str, Any]) -> None:
    for name, operation in operations(document):
        assert operation["responses"]["200"]["content"], name
        for media, described in operation["responses"]["200"]["content"].items():
            if media == "application/json":
                assert described["schema"].keys() & {"$ref", "additionalProperties", "anyOf"}, name


def test_unloading_may_take_too_long(document: dict[str, Any]) -> None:
    for method, path in (("delete", "/api/ps/{model_id}"), ("post", "/unload")):
        assert "504" in document["paths"][path][method]["responses"]


def test_every_json_of_a_transcript_is_described(document: dict[str, Any]) -> None:
    for route, count in (("transcriptions", 3), ("translations", 2)):
        content = document["paths"][f"/v1/audio/{route}"]["post"]["responses"]["200"]["content"]
        shapes = content["application/json"]["schema"]["anyOf"]
        assert len(shapes) == count
        assert all(shape["required"] and "$ref" not in str(shape) for shape in shapes)
        verbose = next(shape for shape in shapes if "words" in shape["properties"])
        assert set(verbose["properties"]["segments"]["items"]["properties"]) >= {
            "id",
            "start",
            "end",
            "text",
            "channel",
        }


@pytest.mark.parametrize("route", ["transcriptions", "translations", "speech"])
def test_work_may_be_refused(document: dict[str, Any], route: str) -> None:
    statuses = document["paths"][f"/v1/audio/{route}"]["post"]["responses"].keys()
    assert {"400", "401", "404", "413", "422", "500", "503", "504", "507"} <= statuses


def test_streams_are_described(document: dict[str, Any]) -> None:
    for route in ("transcriptions", "speech"):
        assert "text/event-stream" in document["paths"][f"/v1/audio/{route}"]["post"]["responses"]["200"]["content"]
