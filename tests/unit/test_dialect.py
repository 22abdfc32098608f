"""What answers under OpenAI's names have that answers under a slug have not; see tests/contract/test_dialect.py."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from openai.types.audio import Transcription, TranscriptionDiarized, TranscriptionVerbose, TranslationVerbose
from pydantic import TypeAdapter
from talkies.asr.formats import FORMATS, Asked
from talkies.asr.transcript import merge
from talkies.dialect import DESCRIPTION, OPENAI, Rule, spoken
from talkies.engines.triton import ChunkAnswer
from talkies.registry import Registry
from talkies.settings import PROJECT
from talkies_kit.wire import Confidence, Segment, Token, Word

from harness.facade import Facade, facade

REGISTRY = Registry.load(PROJECT / "models.json", default_asr="whisper-base", default_tts="kokoro-82m")


def rendered(name: str, confidence: Confidence | None, task: str = "transcribe") -> Any:
    segment = Segment(0.25, 1.5, " Ask not", (Word(" Ask", 0.25, 0.5), Word(" not", 0.5, 1.5)), confidence)
    chunk = ChunkAnswer(0, -1, 0.0, 2.5, "en", [segment])
    transcript = merge([chunk], task=task, language="", diarized=False)
    return json.loads(FORMATS[name].render(transcript, Asked(dialect=OPENAI)))


@pytest.mark.parametrize("confidence", [None, Confidence(-0.25, 1.1, 0.01)])
def test_openais_own_types_take_it_strictly(confidence: Confidence | None) -> None:
    for name, type_ in (("json", Transcription), ("verbose_json", TranscriptionVerbose)):
        TypeAdapter(type_).validate_python(rendered(name, confidence), strict=True)
    TypeAdapter(TranslationVerbose).validate_python(rendered("verbose_json", confidence, "translate"), strict=True)
    diarized = rendered("diarized_json", confidence)
    TypeAdapter(TranscriptionDiarized).validate_python(diarized, strict=True)


def test_log_probabilities_are_openais() -> None:
    word = Word(" Süß", 0.25, 0.5, (Token(b" S\xc3", -0.5), Token(b"\xbc", -0.25), Token("ß".encode(), -1.0)))
    chunk = ChunkAnswer(0, -1, 0.0, 2.5, "de", [Segment(0.25, 1.5, " Süß", (word,))])
    transcript = merge([chunk], task="transcribe", language="", diarized=False)
    for dialect in (DESCRIPTION, OPENAI):
        body = json.loads(FORMATS["json"].render(transcript, Asked(dialect=dialect, logprobs=True)))
        TypeAdapter(Transcription).validate_python(body, strict=True)
        assert body["logprobs"] == [
            {"token": "S\ufffd", "bytes": [0x53, 0xC3], "logprob": -0.5},
            {"token": "\ufffd", "bytes": [0xBC], "logprob": -0.25},
            {"token": "ß", "bytes": [0xC3, 0x9F], "logprob": -1.0},
        ]


def test_openais_words() -> None:
    body = rendered("verbose_json", Confidence(-0.25, 1.1, 0.01))
    assert [word["word"] for word in body["words"]] == ["Ask", "not"]
    assert body["language"] == "english"
    assert body["usage"] == {"type": "duration", "seconds": 2.5}
    (segment,) = body["segments"]
    assert (segment["avg_logprob"], segment["compression_ratio"], segment["no_speech_prob"]) == (-0.25, 1.1, 0.01)


@pytest.mark.parametrize(
    ("rule", "under_slug", "under_openai"),
    [(Rule.AUTO, DESCRIPTION, OPENAI), (Rule.OPENAI, OPENAI, OPENAI), (Rule.DESCRIPTION, DESCRIPTION, DESCRIPTION)],
)
def test_rules(rule: Rule, under_slug: Any, under_openai: Any) -> None:
    assert spoken(rule, is_slug=True) is under_slug
    assert spoken(rule, is_slug=False) is under_openai


@pytest.mark.parametrize(
    ("name", "slug"),
    [
        *[
            (name, "whisper-base")
            for name in ("whisper-1", "gpt-4o-transcribe", "gpt-transcribe", "gpt-live-transcribe")
        ],
        *[(name, "whisper-base") for name in ("gpt-4o-transcribe-diarize", "gpt-4o-mini-transcribe-2025-12-15")],
        ("gpt-realtime-whisper", "whisper-base"),
        *[
            (name, "kokoro-82m")
            for name in ("tts-1", "tts-1-hd", "tts-1-1106", "gpt-4o-mini-tts-2025-12-15", "gpt-tts")
        ],
    ],
)
def test_openais_model_names(name: str, slug: str) -> None:
    assert REGISTRY.find(name).slug == slug
    assert name not in REGISTRY


MEDIA = [
    ("srt", "application/x-subrip; charset=utf-8", "text/plain; charset=utf-8"),
    ("vtt", "text/vtt; charset=utf-8", "text/plain; charset=utf-8"),
    ("json", "application/json", "application/json"),
]


@pytest.mark.parametrize(("name", "own", "openai"), MEDIA)
async def test_content_types(tmp_path: Path, name: str, own: str, openai: str) -> None:
    async with facade(tmp_path) as api:
        for model, media_type in (("whisper-base", own), ("whisper-1", openai)):
            response = await api.transcribe(model=model, response_format=name)
            assert response.headers["content-type"] == media_type


async def speak(api: Facade, **body: Any) -> tuple[str, bool]:
    """Content type, and whether the length was known before."""
    response = await api.speak(**body)
    assert response.status_code == 200, response.text
    return response.headers["content-type"], "content-length" in response.headers


async def test_speech_is_sent_as_it_is_made(tmp_path: Path) -> None:
    async with facade(tmp_path) as api:
        assert await speak(api, model="tts-1", response_format="pcm") == ("audio/pcm", False)
        assert await speak(api, model="tts-1", response_format="mp3") == ("audio/mpeg", False)
        assert await speak(api, model="tts-1", response_format="wav") == ("audio/wav", True)
        assert await speak(api, model="kokoro-82m", response_format="pcm") == ("application/octet-stream", True)
        assert await speak(api, model="kokoro-82m", response_format="mp3") == ("audio/mpeg", True)


@pytest.mark.parametrize("voice", ["fable", "Fable", "FABLE"])
async def test_openais_voices(tmp_path: Path, voice: str) -> None:
    async with facade(tmp_path) as api:
        await speak(api, model="tts-1", voice=voice)
        assert api.synthesizer.calls[0]["voice"] == "bm_fable"
        refused = await api.speak(model="kokoro-82m", voice=voice)
        assert refused.status_code == 400
        assert "TALKIES_OPENAI_VOICES" in refused.json()["error"]["message"]
    async with facade(tmp_path / "other", dialect="openai") as api:
        await speak(api, model="kokoro-82m", voice=voice)


@pytest.mark.parametrize(
    ("model", "tells"),
    [("gpt-transcribe", True), ("gpt-transcribe-2026-12-01", True), ("gpt-4o-transcribe", False), ("whisper-1", False)],
)
async def test_gpt_transcribe_says_which_languages_were_spoken(tmp_path: Path, model: str, tells: bool) -> None:
    languages = [{"code": "en"}] if tells else None
    async with facade(tmp_path) as api:
        body = (await api.transcribe(model=model)).json()
        assert body.get("languages") == languages
        TypeAdapter(Transcription).validate_python(body, strict=True)
        assert "languages" not in (await api.transcribe(model=model, response_format="verbose_json")).json()
        done = json.loads(
            (await api.transcribe(model=model, stream="true")).text.splitlines()[-2].removeprefix("data: ")
        )
        assert done.get("languages") == languages
    async with facade(tmp_path / "other", dialect="description") as api:
        assert (await api.transcribe(model=model)).json() == {"text": "Ask not"}
