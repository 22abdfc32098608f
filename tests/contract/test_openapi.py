"""The server against its own OpenAPI document, by schemathesis: no 500, no undocumented status, on every route."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable
from pathlib import Path

from harness.server import Server
from tests.clients.environment import HERE

CHECKS = (
    "not_a_server_error",
    "status_code_conformance",
    "content_type_conformance",
    "response_headers_conformance",
    "response_schema_conformance",
    "unsupported_method",
)
READYZ = "/readyz"  # whose 503 is an answer and no fault: tested in test_readiness


def schemathesis(server: Server, python: Path, folder: Path) -> str:
    """Its report, which fails the test with it when a check failed."""
    done = subprocess.run(
        [
            *(
                python.with_name("st"),
                "run",
                f"{server.url}/openapi.json",
                "--url",
                server.url,
                "--checks",
                ",".join(CHECKS),
                "--exclude-path",
                READYZ,
            ),
            *("--phases", "coverage,fuzzing", "--max-examples", "25", "--seed", "3", "--generation-deterministic"),
            *("--no-shrink", "--request-timeout", "60", "--no-color"),
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
    report = schemathesis(server, client_python("schemathesis"), tmp_path)
    with server.http() as http:
        paths = http.get("/openapi.json").json()["paths"]
    operations = sum(len(methods) for path, methods in paths.items() if path != READYZ)
    assert f"Tested: {operations}" in report
    assert not list((server.data / "uploads").iterdir())
