"""POST /v1/audio/translations through the real tritonserver, on real Whisper weights."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from harness.server import Server
from harness.words import normalize, transcripts

# OpenAI's client calls the whole endpoint deprecated.
pytestmark = pytest.mark.filterwarnings("ignore:deprecated:DeprecationWarning")

MODEL = "whisper-base"

# Words that a translation of the clip must have; whisper-base gets the rest of these sentences only more or less right.
SENSE = {
    "fleurs/fleurs-de-000.ogg": {"best", "hong", "kong", "leave", "island"},
    "fleurs/fleurs-de-003.ogg": {"many", "men", "women", "murdered", "jews"},
    "fleurs/fleurs-de-004.ogg": {"mountains", "north", "mecca", "world", "isolated"},
    "fleurs/fleurs-fr-000.ogg": {"accident", "place", "caused"},
    "fleurs/fleurs-fr-004.ogg": {"same", "month", "wall", "killed"},
}


@pytest.mark.parametrize("name", SENSE)
def test_into_english(server: Server, shared_audio: Path, name: str) -> None:
    text = server.openai().audio.translations.create(model="whisper-1", file=shared_audio / name).text
    assert SENSE[name] <= set(normalize(text).split()), text
    (original,) = [spoken for path, _, spoken in transcripts(shared_audio, name)]
    assert normalize(original) != normalize(text)


def test_verbose_json(server: Server, shared_audio: Path) -> None:
    path = shared_audio / "fleurs" / "fleurs-de-004.ogg"
    result = server.openai().audio.translations.create(model=MODEL, file=path, response_format="verbose_json")
    assert (result.language, result.to_dict()["task"]) == ("english", "translate")
    assert result.segments and "isolated" in result.text
    assert 0 < result.segments[-1].end <= result.duration


def test_english_stays_english_in_every_format(server: Server, jfk: Path) -> None:
    for format in ("json", "text", "srt", "vtt"):
        with server.http() as http:
            files = {"file": (jfk.name, jfk.read_bytes())}
            fields = {"model": MODEL, "response_format": format, "prompt": "A speech.", "temperature": "0"}
            response = http.post("/v1/audio/translations", files=files, data=fields)
        assert response.status_code == 200, response.text
        text = json.loads(response.text)["text"] if format == "json" else response.text
        spoken = normalize(re.sub(r"(?m)^\d+$|^\S+ --> \S+$|^WEBVTT$", "", text))
        assert "ask not what your country can do for you" in spoken, format


@pytest.mark.parametrize(
    ("fields", "status", "param"),
    [
        ({"model": "parakeet-tdt-0.6b-v3"}, 400, "model"),
        ({"model": "kokoro-82m"}, 400, "model"),
        ({"model": "nope"}, 404, "model"),
        ({"response_format": "diarized_json"}, 400, "response_format"),
        ({"temperature": "2"}, 422, "temperature"),
        ({"file_path": "also/this.wav"}, 400, "file"),
    ],
)
def test_bad_fields(server: Server, jfk: Path, fields: dict[str, str], status: int, param: str) -> None:
    with server.http() as http:
        files = {"file": (jfk.name, jfk.read_bytes())}
        response = http.post("/v1/audio/translations", files=files, data={"model": MODEL, **fields})
    assert (response.status_code, response.json()["error"]["param"]) == (status, param), response.text


def test_models_that_can_are_named(server: Server, jfk: Path) -> None:
    with server.http() as http:
        files = {"file": (jfk.name, jfk.read_bytes())}
        response = http.post("/v1/audio/translations", files=files, data={"model": "canary-qwen-2.5b"})
    assert "whisper-base" in response.json()["detail"] and "canary-1b-flash" in response.json()["detail"]
