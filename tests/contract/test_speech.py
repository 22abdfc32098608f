"""POST /v1/audio/speech through the real tritonserver, on real Kokoro weights."""

from __future__ import annotations

import io
from typing import Any

import av
import numpy as np
import openai
import pytest

from harness import audio
from harness.server import Server
from harness.speech import CONTENT_TYPES, FOX, FRAME, MAGIC, SENTENCES
from harness.words import normalize, wer

MODEL = "kokoro-82m"


@pytest.fixture(scope="module")
def fox(server: Server) -> np.ndarray:
    """FOX as samples."""
    return np.frombuffer(server.speak(FOX, response_format="pcm").content, "<i2")


@pytest.mark.parametrize("format", MAGIC)
def test_formats(server: Server, fox: np.ndarray, format: str) -> None:
    answer = server.openai().audio.speech.create(
        model=MODEL,
        voice="af_heart",
        input=FOX,
        response_format=format,  # type: ignore[arg-type]
    )
    data, headers = answer.content, answer.response.headers
    assert data.startswith(MAGIC[format])
    assert headers["content-type"] == CONTENT_TYPES[format]
    assert int(headers["content-length"]) == len(data)
    with av.open(io.BytesIO(data)) as container:
        assert container.streams.audio[0].layout.nb_channels == 1
    decoded = audio.decode(data, 24_000)
    # The voice's noise source differs from call to call, its timing does not.
    assert abs(len(decoded) - len(fox)) / 24_000 <= FRAME[format] + 1 / 24_000
    assert np.abs(decoded).max() > 3000


def test_pcm_says_its_rate(server: Server) -> None:
    response = server.speak("Hello.", response_format="pcm")
    assert response.headers["content-type"] == "application/octet-stream"
    assert response.headers["x-sample-rate"] == "24000"
    assert len(response.content) % 2 == 0


def test_default_is_mp3(server: Server) -> None:
    response = server.speak("Hello.")
    assert response.headers["content-type"] == "audio/mpeg"


@pytest.mark.parametrize("voice", ["af_heart", "am_michael", "bf_emma", "bm_george"])
def test_round_trip_keeps_the_words(server: Server, voice: str) -> None:
    text = " ".join(SENTENCES[::2])
    heard = server.transcribe(server.speak(text, voice=voice, response_format="wav").content, language="en").json()
    assert wer([text], [heard["text"]]) <= 0.05, heard


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
    speech = server.speak(text, voice=voice, response_format="wav").content
    result = server.openai().audio.transcriptions.create(
        model="whisper-base", file=("a.wav", speech), language=language
    )
    assert wer([text], [result.text], language) <= 0.35, result.text


def test_hindi_speaks(server: Server) -> None:
    pcm = server.speak("नमस्ते। आप कैसे हैं?", voice="hf_alpha", response_format="pcm").content
    assert 1.0 < len(pcm) / 2 / 24_000 < 6.0


def test_speed(server: Server) -> None:
    text = FOX
    normal, fast, clamped = (
        len(server.speak(text, speed=speed, response_format="pcm").content) for speed in (1.0, 2.0, 100.0)
    )
    assert 0.35 < fast / normal < 0.7
    assert clamped < fast


def test_long_text_is_spoken_to_its_end(server: Server) -> None:
    text = " and ".join(sentence.rstrip(".").lower() for sentence in SENTENCES) + " with a purple elephant."
    speech = server.speak(text, response_format="wav").content
    result = server.openai().audio.transcriptions.create(model="whisper-base", file=("a.wav", speech), language="en")
    assert normalize(result.text).endswith("purple elephant")
    assert wer([text], [result.text]) <= 0.1, result.text


def test_voices(server: Server) -> None:
    with server.http() as http:
        voices = http.get("/v1/audio/voices").json()["voices"]
    mine = [voice for voice in voices if voice["model"] == MODEL]
    assert len(mine) == 41
    assert {voice["voice"][0] for voice in mine} == set("abefhip")
    assert {voice["language"] for voice in mine} == {"en-us", "en-gb", "es", "fr", "hi", "it", "pt-br"}
    assert {voice["gender"] for voice in mine} == {"female", "male"}
    assert [voice["voice"] for voice in mine if voice["default"]] == ["af_heart"]
    assert all(voice["id"] == voice["name"] == voice["voice"] and "origin" not in voice for voice in mine)


@pytest.mark.parametrize("text", [".", "…", "!!!", "🙂🙂", "- -", "( )", "?!.", "\u200b", "*"])
def test_marks_alone_are_a_moment_of_silence(server: Server, text: str) -> None:
    """Which a sentence splitter sends, and a client that tries its key."""
    answer = server.speak(text, response_format="wav")
    assert answer.status_code == 200, answer.text
    samples = audio.decode(answer.content, 24_000)
    assert 0 < len(samples) <= 12_000
    assert not samples.any()


@pytest.mark.parametrize(
    ("fields", "status", "param"),
    [
        ({"input": "   "}, 400, "input"),
        ({"voice": "alloy"}, 400, "voice"),
        ({"voice": "../../etc/passwd"}, 400, "voice"),
        ({"voice": {"id": "nobody"}}, 400, "voice"),
        ({"response_format": "midi"}, 400, "response_format"),
        ({"model": "whisper-base"}, 400, "model"),
        ({"model": "tts-9"}, 404, "model"),
        ({"speed": "fast"}, 422, "speed"),
    ],
)
def test_bad_fields(server: Server, fields: dict[str, Any], status: int, param: str) -> None:
    response = server.speak(**fields)
    assert (response.status_code, response.json()["error"]["param"]) == (status, param), response.text


def test_unknown_voice_lists_the_catalogue(server: Server) -> None:
    with pytest.raises(openai.BadRequestError, match="af_heart") as caught:
        server.openai().audio.speech.create(model=MODEL, voice="alloy", input="Hello.")
    assert caught.value.param == "voice"


def test_voice_object(server: Server) -> None:
    assert server.speak("Hello.", voice={"id": "am_adam"}).status_code == 200
