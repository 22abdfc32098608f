"""The commands of the README and the other pages, run as they are written: blocks marked `sh` and `python` work."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest
from talkies.settings import PROJECT

from harness.server import Server

_ELSEWHERE = {"adding-an-engine.md"}
"""Pages that a test of their own runs: they need another server."""
PAGES = [
    PROJECT / "README.md",
    *sorted(page for page in (PROJECT / "docs").glob("*.md") if page.name not in _ELSEWHERE),
]
_BLOCK = re.compile(r"^```(sh|python)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_COMMANDS = ("curl ", ".venv/bin/", "./scripts/", "TALKIES_", "echo ")
_PREAMBLE = """set -euo pipefail
curl() { command curl --fail-with-body --silent --show-error "$@"; }
"""
"""curl alone succeeds with an error as well."""


def blocks(language: str) -> Sequence[object]:
    """The blocks of all pages, each named by its page and line."""
    found = []
    for page in PAGES:
        text = page.read_text()
        for match in _BLOCK.finditer(text):
            if match[1] == language:
                line = text.count("\n", 0, match.start()) + 1
                found.append(pytest.param(match[2], id=f"{page.relative_to(PROJECT)}:{line}"))
    return found


@pytest.fixture
def clone(tmp_path: Path) -> Path:
    """A folder that looks like a clone and may be written to."""
    for entry in PROJECT.iterdir():
        if entry.name != "data":
            (tmp_path / entry.name).symlink_to(entry)
    return tmp_path


def run(command: list[str], folder: Path, server: Server) -> None:
    done = subprocess.run(
        command,
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
        env={**os.environ, "TALKIES_URL": server.url},
    )
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]


def elsewhere(code: str, server: Server) -> str:
    """The code for the address of the tests' server."""
    code = code.replace("http://127.0.0.1:8000", server.url)
    return re.sub(r"^(.* scripts/examples/grpc_.*)$", rf"\1 --url {server.grpc}", code, flags=re.MULTILINE)


@pytest.mark.parametrize("block", blocks("sh"))
def test_commands(server: Server, clone: Path, block: str) -> None:
    commands = re.sub(r"\\\n\s*", "", block).splitlines()
    assert [command for command in commands if command and not command.startswith(_COMMANDS)] == []
    if any("scripts/examples/grpc_" in command for command in commands):
        load(server)
    run(["bash", "-c", _PREAMBLE + elsewhere("\n".join(commands), server)], clone, server)


def load(server: Server) -> None:
    """What a gRPC client cannot do itself."""
    with server.http() as http:
        files = {"file": ("jfk.flac", (PROJECT / "tests" / "data" / "jfk.flac").read_bytes())}
        http.post("/v1/audio/transcriptions", data={"model": "whisper-base"}, files=files).raise_for_status()
        http.post("/v1/audio/speech", json={"model": "kokoro-82m", "input": "Hello."}).raise_for_status()


@pytest.mark.parametrize("block", blocks("python"))
def test_python(server: Server, clone: Path, block: str) -> None:
    run([sys.executable, "-c", elsewhere(block, server)], clone, server)


def test_every_page_shows_something_that_works() -> None:
    shown = {str(parameter.id).partition(":")[0] for parameter in blocks("sh")}  # type: ignore[attr-defined]
    assert {"README.md", "docs/http-api.md", "docs/command-line.md", "docs/grpc.md"} <= shown
