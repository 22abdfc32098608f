"""Unmodified clients from PyPI and npm, each told no more than the address of a server on its defaults.

A client's script makes its calls and prints what came back: texts of the recording, files of the spoken sentence, and
facts about other things.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from harness.server import ASR, JFK_WORDS, Server, default_home
from harness.words import normalize, wer
from tests.clients import environment

pytestmark = pytest.mark.clients
FOX = "The quick brown fox jumps over the lazy dog."
_TIMEOUT = 300
_CUE = re.compile(r"^\d+\n.* --> .*\n", re.MULTILINE)
"""The head of one of srt's."""
PYPI: dict[str, dict[str, Any]] = {
    "dify": {},
    "langchain": {},
    "livekit": {"language": "en"},
    "llama_index": {},
    "openai_0_28": {"language": "english", "models": True},
    "pipecat": {},
    "speech_recognition": {},
}
"""What scripts find besides texts and speech."""
PYTHONS = {"dify": ("3.12", "3.13", "3.14")}
"""For those that this Python is too old for."""
OPENAI = {
    "models": True,
    "usage": "duration",
    "language": "english",
    "words": True,
    "done": "transcript.text.done",
    "error": [True, "model_not_found"],
}
AI = {"duration": 11, "language": "en", "words": False}  # it prefers segments, which are always there
NPM = {
    "openai-6": ("openai.mjs", OPENAI),
    "openai-7": ("openai.mjs", OPENAI),
    "ai-6": ("ai.mjs", AI),
    "ai-7": ("ai.mjs", AI),
}


def run(server: Server, *command: str | Path) -> dict[str, Any]:
    """The object that a script prints last. Raises AssertionError with its complaint."""
    variables = {"OPENAI_BASE_URL": f"{server.url}/v1", "OPENAI_API_KEY": "unused"}
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=_TIMEOUT, check=False, env={**os.environ, **variables}
    )
    assert done.returncode == 0, (done.stdout + done.stderr)[-3000:]
    answer: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return answer


def check(server: Server, folder: Path, answer: Mapping[str, Any], facts: Mapping[str, Any]) -> None:
    """Every text has Kennedy's words; the server understands every speech."""
    assert answer["transcripts"]
    for call, text in answer["transcripts"].items():
        assert JFK_WORDS in normalize(_CUE.sub("", text)), (call, text)
    assert answer["facts"] == facts
    for call, name in answer["speeches"].items():
        heard = server.transcribe(folder / name, model=ASR, language="en").json()["text"]
        assert wer([FOX], [heard]) == 0, (call, heard)


def line(versions: Mapping[str, str], answer: Mapping[str, Any]) -> str:
    named = ", ".join(f"{package} {version}" for package, version in versions.items())
    heard, spoken = (", ".join(answer[kind]) or "nothing" for kind in ("transcripts", "speeches"))
    return f"{named}: heard {heard}; spoke {spoken}"


@pytest.mark.parametrize("client", PYPI)
def test_pypi(
    client: str,
    defaults: Server,
    recording: Path,
    tmp_path: Path,
    client_python: Callable[..., Path],
    ran: Callable[[str], None],
) -> None:
    script = environment.HERE / f"use_{client}.py"
    answer = run(defaults, client_python(client, *PYTHONS.get(client, ())), script, defaults.url, recording, tmp_path)
    check(defaults, tmp_path, answer, PYPI[client])
    ran(line(answer["versions"], answer))


@pytest.mark.parametrize("client", NPM)
def test_npm(client: str, defaults: Server, recording: Path, tmp_path: Path, ran: Callable[[str], None]) -> None:
    script, facts = NPM[client]
    node, placed = environment.npm(default_home() / "envs", client, script)
    answer = run(defaults, node, placed, recording, tmp_path)
    check(defaults, tmp_path, answer, facts)
    packages = json.loads((placed.parent / "package.json").read_text())["dependencies"]
    versions = {name: _version(placed.parent / "node_modules" / name) for name in packages}
    ran(line({**versions, "node": subprocess.check_output([node, "--version"], text=True).strip()}, answer))


def _version(package: Path) -> str:
    return str(json.loads((package / "package.json").read_text())["version"])
