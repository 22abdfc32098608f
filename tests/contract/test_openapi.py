"""The server against its own OpenAPI document, by schemathesis: no 500, no undocumented status, on every route."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable
from pathlib import Path

from tests.clients.environment import HERE
from tests.conftest import Server

CHECKS = (
    "not_a_server_error",
    "status_code_conformance",
    "content_type_conformance",
    "response_headers_conformance",
    "response_schema_conformance",
    "unsupported_method",
)


def schemathesis(server: Server, python: Path, folder: Path, document: str, *options: str) -> str:
    """Its report, which fails the test with it when a check failed."""
    done = subprocess.run(
        [
            *(python.with_name("st"), "run", document, "--url", server.url, "--checks", ",".join(CHECKS)),
            *("--phases", "coverage,fuzzing", "--max-examples", "25", "--seed", "3", "--generation-deterministic"),
            *("--no-shrink", "--request-timeout", "60", "--no-color"),
            *options,
        ],
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
        cwd=folder,
        env={**os.environ, "SCHEMATHESIS_HOOKS": "schemathesis_hooks", "PYTHONPATH": str(HERE)},
    )
    assert done.returncode == 0, done.stdout[-8000:] + done.stderr[-2000:]
    return done.stdout


def test_document(server: Server, tmp_path: Path, client_python: Callable[..., Path]) -> None:
    report = schemathesis(server, client_python("schemathesis"), tmp_path, f"{server.url}/openapi.json")
    with server.http() as http:
        paths = http.get("/openapi.json").json()["paths"]
    operations = sum(len(methods) for methods in paths.values())
    assert f"Tested: {operations}" in report
    assert not list((server.data / "uploads").iterdir())


def test_document_with_a_token(
    start_server: Callable[..., Server], tmp_path: Path, client_python: Callable[..., Path]
) -> None:
    """Without its token, nothing but the documented 401, whatever is sent."""
    server = start_server(AUTH_TOKEN="sesame")
    with server.http(headers={"Authorization": "Bearer sesame"}) as http:
        document = tmp_path / "openapi.json"
        document.write_text(http.get("/openapi.json").text)
    python = client_python("schemathesis")
    # What has no method is a 401 before it is a 405.
    wrong = ("--header", "Authorization: Bearer wrong", "--exclude-checks", "unsupported_method", "--max-examples", "5")
    report = schemathesis(server, python, tmp_path, str(document), *wrong)
    assert "Tested:" in report
