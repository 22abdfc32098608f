"""The OpenAPI document: every route says what it answers, errors included."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.unit.facade import facade

ERROR = {"application/json": {"schema": {"$ref": "#/components/schemas/ErrorBody"}}}


@pytest.fixture
async def document(tmp_path: Path) -> dict[str, Any]:
    async with facade(tmp_path / "data") as api:
        return dict((await api.client.get("/openapi.json")).json())


def operations(document: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            yield f"{method.upper()} {path}", operation


def test_every_error_has_the_one_shape(document: dict[str, Any]) -> None:
    for name, operation in operations(document):
        errors = {status: answer for status, answer in operation["responses"].items() if status >= "4"}
        assert {status: answer["content"] for status, answer in errors.items()} == dict.fromkeys(errors, ERROR), name


def test_every_route_but_health_may_want_a_token(document: dict[str, Any]) -> None:
    without = {name for name, operation in operations(document) if "401" not in operation["responses"]}
    assert without == {"GET /healthz"}


def test_every_success_says_its_types(document: dict[str, Any]) -> None:
    for name, operation in operations(document):
        assert operation["responses"]["200"]["content"], name
        for media, described in operation["responses"]["200"]["content"].items():
            if media == "application/json" and not name.startswith("POST /v1/audio"):
                assert described["schema"].keys() & {"$ref", "additionalProperties"}, name


@pytest.mark.parametrize("route", ["transcriptions", "translations", "speech"])
def test_work_may_be_refused(document: dict[str, Any], route: str) -> None:
    statuses = document["paths"][f"/v1/audio/{route}"]["post"]["responses"].keys()
    assert {"400", "401", "404", "413", "422", "500", "503", "504"} <= statuses


def test_streams_are_described(document: dict[str, Any]) -> None:
    for route in ("transcriptions", "speech"):
        assert "text/event-stream" in document["paths"][f"/v1/audio/{route}"]["post"]["responses"]["200"]["content"]
