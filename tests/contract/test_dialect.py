"""OpenAI's model names get OpenAI's exact answers, a slug the description's: through the real server."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from openai.types.audio import Transcription, TranscriptionDiarized, TranscriptionVerbose
from pydantic import TypeAdapter

from harness import audio
from harness.server import ASR, TTS, Server
from harness.words import normalize

SENTENCE = "ask not what your country can do for you"


@pytest.mark.parametrize(
    ("model", "format", "type_"),
    [
        ("whisper-1", "json", Transcription),
        ("whisper-1", "verbose_json", TranscriptionVerbose),
        ("gpt-transcribe", "json", Transcription),
        ("gpt-4o-mini-transcribe-2025-12-15", "json", Transcription),
    ],
)
def test_openais_types_take_the_answer_strictly(server: Server, jfk: Path, model: str, format: str, type_: Any) -> None:
    body = server.transcribe(jfk, model=model, response_format=format).json()
    TypeAdapter(type_).validate_python(body, strict=True)
    assert SENTENCE in normalize(body["text"])
    assert body["usage"] == {"type": "duration", "seconds": pytest.approx(11.0, abs=0.05)}


def test_the_diarizing_model(server: Server) -> None:
    both = np.stack([audio.tone(2), audio.tone(2, hertz=300.0)])
    stereo = audio.encode(both, 16_000, "wav", "pcm_s16le", "stereo")
    answer = server.transcribe(stereo, model="gpt-4o-transcribe-diarize", response_format="diarized_json")
    TypeAdapter(TranscriptionDiarized).validate_python(answer.json(), strict=True)


def test_whispers_own_confidences(server: Server, jfk: Path) -> None:
    body = server.transcribe(jfk, model="whisper-1", response_format="verbose_json").json()
    assert body["language"] == "english"
    assert all(word["word"] == word["word"].strip() for word in body["words"])
    for segment in body["segments"]:
        assert -1.0 < segment["avg_logprob"] < 0
        assert 0.5 < segment["compression_ratio"] < 2.4
        assert 0 <= segment["no_speech_prob"] < 0.6


def test_a_slug_answers_as_described(server: Server, jfk: Path) -> None:
    body = server.transcribe(jfk, model=ASR, response_format="verbose_json").json()
    assert set(body) == {"task", "language", "duration", "text", "segments", "words"}
    assert body["language"] == "en"
    assert body["words"][0]["word"].startswith(" ")
    assert all(segment["avg_logprob"] is None for segment in body["segments"])
    assert set(server.transcribe(jfk, model=ASR).json()) == {"text"}


@pytest.mark.parametrize("language", ["auto", "english", "eng", "en-US"])
def test_languages_people_send(server: Server, jfk: Path, language: str) -> None:
    assert SENTENCE in normalize(server.transcribe(jfk, model="whisper-1", language=language).json()["text"])


@pytest.mark.parametrize(
    ("format", "media_type", "whole"),
    [
        ("mp3", "audio/mpeg", False),
        ("opus", "audio/ogg", False),
        ("aac", "audio/aac", False),
        ("pcm", "audio/pcm", False),
        ("wav", "audio/wav", True),
        ("flac", "audio/flac", True),
    ],
)
def test_openais_speech(server: Server, format: str, media_type: str, whole: bool) -> None:
    with server.http() as http:
        body = {"model": "gpt-4o-mini-tts", "voice": "Alloy", "input": "Hello there.", "response_format": format}
        answer = http.post("/v1/audio/speech", json=body)
        assert answer.status_code == 200, answer.text
        assert answer.headers["content-type"] == media_type
        assert ("content-length" in answer.headers) is whole
        assert answer.content
        refused = http.post("/v1/audio/speech", json={**body, "model": TTS})
    assert refused.status_code == 400
    assert "TALKIES_OPENAI_VOICES" in refused.json()["error"]["message"]
