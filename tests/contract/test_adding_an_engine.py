"""The engine of docs/adding-an-engine.md: its files as the page has them, served, and what it says listened to."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import openai
import pytest
from talkies.settings import PROJECT

from harness import audio
from harness.server import Server, default_home, running

PAGE = (PROJECT / "docs" / "adding-an-engine.md").read_text(encoding="utf-8")
FILES = dict(re.findall(r"^`(engines/\S+)`:\n\n```\w+\n(.*?)^```$", PAGE, re.M | re.S))
DOT = 960
"""Samples at natural speed."""


@pytest.fixture(scope="module")
def morse(prepared: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server of the page's engine, set up with the page's commands."""
    folder = tmp_path_factory.mktemp("morse")
    for name, content in FILES.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(content, encoding="utf-8")
    commands = re.search(r"^export TALKIES_ENGINES_DIR.*?(?=^\.venv/bin/talkies serve$)", PAGE, re.M | re.S)
    assert commands
    script = commands[0].replace(".venv/bin/talkies", "python -m talkies").replace(".venv/bin/", "")
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    data = folder / "data"
    variables = {"TALKIES_DATA_DIR": str(data), "TALKIES_ENVS_DIR": str(default_home() / "envs"), "PATH": path}
    subprocess.run(["bash", "-euc", script], cwd=folder, env={**os.environ, **variables}, check=True)  # noqa: S607
    settings = {"ENGINES_DIR": str(folder / "engines"), "MODELS_FILE": str(folder / "engines" / "models.json")}
    with running(data, **settings) as server:
        yield server


def speak(server: Server, text: str, speed: float = 1.0) -> bytes:
    return (
        server.openai()
        .audio.speech.create(model="morse", voice="any", input=text, response_format="wav", speed=speed)
        .read()
    )


def heard(wav: bytes, dot: int = DOT) -> str:
    """The text of the tones."""
    codes = {code: letter for letter, code in json.loads(FILES["engines/weights/morse.json"]).items()}
    samples = np.abs(audio.decode(wav).astype(np.int32))
    on = samples[: len(samples) // dot * dot].reshape(-1, dot).max(axis=1) > 2000
    keyed = "".join("1" if value else "0" for value in on).rstrip("0")
    words = [
        [letter.replace("111", "-").replace("1", ".").replace("0", "") for letter in word.split("000")]
        for word in keyed.split("0000000")
    ]
    return " ".join("".join(codes[letter] for letter in word) for word in words)


def test_it_says_what_it_is_given(morse: Server) -> None:
    assert heard(speak(morse, "SOS, the quick brown fox!")) == "sos the quick brown fox"


def test_what_the_facade_and_the_kit_add(morse: Server) -> None:
    assert heard(speak(morse, "Twice", speed=2), DOT // 2) == "twice"
    with pytest.raises(openai.BadRequestError, match="nothing in it that Morse code can say") as caught:
        speak(morse, "¡¿…?!")
    assert caught.value.param == "input"
    with morse.http() as http:
        assert [model["id"] for model in http.get("/v1/models").json()["data"]] == ["morse"]
        assert [model["model"] for model in http.get("/api/ps").json()["models"]] == ["morse"]
        body = {"model": "morse", "input": "one two", "response_format": "wav", "stream_format": "audio"}
        assert heard(http.post("/v1/audio/speech", json=body).content) == "one two"
