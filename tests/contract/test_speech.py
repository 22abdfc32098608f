"""POST /v1/audio/speech through the real tritonserver, on real Kokoro weights."""

from __future__ import annotations

import io

import av
import httpx
import numpy as np
import openai
import pytest

from tests import audio
from tests.conftest import Server
from tests.words import normalize, wer

MODEL = "kokoro-82m"
MAGIC = {
    "mp3": (b"ID3", b"\xff\xfb", b"\xff\xf3"),
    "opus": (b"OggS",),
    "aac": (b"\xff\xf1", b"\xff\xf9"),
    "flac": (b"fLaC",),
    "wav": (b"RIFF",),
}
CONTENT_TYPES = {"mp3": "audio/mpeg", "opus": "audio/ogg", "aac": "audio/aac", "flac": "audio/flac", "wav": "audio/wav"}
FRAME = {"mp3": 1152 / 24_000, "opus": 0.02, "aac": 1024 / 24_000, "flac": 0.0, "wav": 0.0}
"""Seconds of one frame of the codec at Kokoro's rate."""


def speak(server: Server, text: str, **fields: object) -> httpx.Response:
    with server.http() as http:
        return http.post("/v1/audio/speech", json={"model": MODEL, "input": text, **fields})


@pytest.mark.parametrize("format", MAGIC)
def test_formats(server: Server, format: str) -> None:
    text = "The quick brown fox jumps over the lazy dog."
    answer = server.openai().audio.speech.create(
        model=MODEL,
        voice="af_heart",
        input=text,
        response_format=format,  # type: ignore[arg-type]
    )
    data, headers = answer.content, answer.response.headers
    assert data.startswith(MAGIC[format])
    assert headers["content-type"] == CONTENT_TYPES[format]
    assert int(headers["content-length"]) == len(data)
    with av.open(io.BytesIO(data)) as container:
        assert container.streams.audio[0].layout.nb_channels == 1
    pcm = np.frombuffer(speak(server, text, response_format="pcm").content, "<i2")
    decoded = audio.decode(data, 24_000)
    # The voice's noise source differs from call to call, its timing does not.
    assert abs(len(decoded) - len(pcm)) / 24_000 <= FRAME[format] + 1 / 24_000
    assert np.abs(decoded).max() > 3000


def test_pcm_says_its_rate(server: Server) -> None:
    response = speak(server, "Hello.", response_format="pcm")
    assert response.headers["content-type"] == "application/octet-stream"
    assert response.headers["x-sample-rate"] == "24000"
    assert len(response.content) % 2 == 0


def test_default_is_mp3(server: Server) -> None:
    response = speak(server, "Hello.")
    assert response.headers["content-type"] == "audio/mpeg"


SENTENCES = [
    "The quick brown fox jumps over the lazy dog.",
    "She bought fresh bread and two bottles of milk at the market this morning.",
    "Please call me back tomorrow afternoon before the train leaves.",
    "The library closes early on Sunday because the staff is small.",
    "Nobody knew why the old clock on the wall had stopped.",
    "We walked along the river until the sun went down behind the hills.",
]


@pytest.mark.parametrize("voice", ["af_heart", "am_michael", "bf_emma", "bm_george"])
def test_round_trip_keeps_the_words(server: Server, voice: str) -> None:
    heard = []
    for sentence in SENTENCES:
        speech = speak(server, sentence, voice=voice, response_format="wav").content
        result = server.openai().audio.transcriptions.create(
            model="whisper-base", file=("a.wav", speech), language="en"
        )
        heard.append(normalize(result.text))
    assert wer(SENTENCES, heard) <= 0.05, heard


@pytest.mark.parametrize(
    ("voice", "language", "text"),
    [
        ("ef_dora", "es", "Mañana por la mañana vamos a la playa con los niños."),
        ("ff_siwis", "fr", "Le petit chat dort sur la chaise de la cuisine."),
        ("if_sara", "it", "Domani mattina prendiamo il treno per andare a Roma."),
        ("pf_dora", "pt", "Amanhã de manhã vamos comprar pão e leite no mercado."),
    ],
)
def test_other_languages(server: Server, voice: str, language: str, text: str) -> None:
    speech = speak(server, text, voice=voice, response_format="wav").content
    result = server.openai().audio.transcriptions.create(
        model="whisper-base", file=("a.wav", speech), language=language
    )
    assert wer([text], [result.text], language) <= 0.35, result.text


def test_hindi_speaks(server: Server) -> None:
    pcm = speak(server, "नमस्ते। आप कैसे हैं?", voice="hf_alpha", response_format="pcm").content
    assert 1.0 < len(pcm) / 2 / 24_000 < 6.0


def test_speed(server: Server) -> None:
    text = "The quick brown fox jumps over the lazy dog."
    normal, fast, clamped = (
        len(speak(server, text, speed=speed, response_format="pcm").content) for speed in (1.0, 2.0, 100.0)
    )
    assert 0.35 < fast / normal < 0.7
    assert clamped < fast


def test_long_text_is_spoken_to_its_end(server: Server) -> None:
    text = " and ".join(sentence.rstrip(".").lower() for sentence in SENTENCES * 2) + " with a purple elephant."
    speech = speak(server, text, response_format="wav").content
    result = server.openai().audio.transcriptions.create(model="whisper-base", file=("a.wav", speech), language="en")
    assert normalize(result.text).endswith("purple elephant")
    assert wer([text], [result.text]) <= 0.1, result.text


def test_voices(server: Server) -> None:
    with server.http() as http:
        voices = http.get("/v1/audio/voices").json()["voices"]
    mine = [voice for voice in voices if voice["model"] == MODEL]
    assert len(mine) == 41
    assert {voice["voice"][0] for voice in mine} == set("abefhip")
    assert [voice["voice"] for voice in mine if voice["default"]] == ["af_heart"]
    assert all(voice["id"] == voice["name"] == voice["voice"] and "origin" not in voice for voice in mine)


@pytest.mark.parametrize(
    ("fields", "status", "param"),
    [
        ({"input": "   "}, 400, "input"),
        ({"input": "🙂🙂"}, 400, "input"),
        ({"voice": "alloy"}, 400, "voice"),
        ({"voice": "../../etc/passwd"}, 400, "voice"),
        ({"voice": {"id": "nobody"}}, 400, "voice"),
        ({"response_format": "midi"}, 400, "response_format"),
        ({"model": "whisper-base"}, 400, "model"),
        ({"model": "tts-9"}, 404, "model"),
        ({"speed": "fast"}, 422, "speed"),
    ],
)
def test_bad_fields(server: Server, fields: dict[str, object], status: int, param: str) -> None:
    response = (
        speak(server, **{"text": "Hello.", **{k: v for k, v in fields.items() if k != "input"}})
        if ("input" not in fields)
        else speak(server, str(fields["input"]))
    )
    assert (response.status_code, response.json()["error"]["param"]) == (status, param), response.text


def test_unknown_voice_lists_the_catalogue(server: Server) -> None:
    with pytest.raises(openai.BadRequestError, match="af_heart") as caught:
        server.openai().audio.speech.create(model=MODEL, voice="alloy", input="Hello.")
    assert caught.value.param == "voice"


def test_voice_object(server: Server) -> None:
    assert speak(server, "Hello.", voice={"id": "am_adam"}).status_code == 200
