"""OpenAI's own Python client, unmodified, and the requests of Open WebUI, against the real server."""

from __future__ import annotations

import asyncio
import io
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import numpy as np
import openai
import pytest

from harness import audio
from harness.server import Server
from harness.words import normalize, wer

ASR, TTS = "whisper-base", "kokoro-82m"
SENTENCE = "ask not what your country can do for you"
FOX = "The quick brown fox jumps over the lazy dog."


def heard(server: Server, speech: bytes) -> str:
    """The words of a made speech, by the server itself."""
    with server.http() as http:
        form = {"model": ASR, "language": "en", "response_format": "text"}
        return http.post("/v1/audio/transcriptions", files={"file": ("a.wav", speech)}, data=form).text


async def test_openai_async(server: Server, jfk: Path) -> None:
    async with openai.AsyncOpenAI(base_url=f"{server.url}/v1", api_key="unused", max_retries=0) as client:
        models = [model.id async for model in client.models.list()]
        assert {ASR, TTS} <= set(models)
        text, speech = await asyncio.gather(
            client.audio.transcriptions.create(model="whisper-1", file=jfk),
            client.audio.speech.create(model="tts-1", voice="af_heart", input=FOX, response_format="wav"),
        )
    assert SENTENCE in normalize(text.text)
    assert wer([FOX], [await asyncio.to_thread(heard, server, speech.content)]) == 0


def test_openai_sends_every_field(server: Server, jfk: Path) -> None:
    """All that the SDK can put into a form; nothing of it is refused."""
    result = server.openai().audio.transcriptions.create(
        model="gpt-4o-transcribe",
        file=("speech.flac", jfk.read_bytes(), "audio/flac"),
        language="en",
        prompt="John F. Kennedy",
        temperature=0.0,
        response_format="json",
        timestamp_granularities=["word", "segment"],
        chunking_strategy={"type": "server_vad", "threshold": 0.5},
        include=["logprobs"],
        stream=False,
    )
    assert SENTENCE in normalize(result.text)


def test_openai_streams_a_transcript(server: Server, jfk: Path) -> None:
    events = list(server.openai().audio.transcriptions.create(model="gpt-4o-transcribe", file=jfk, stream=True))
    assert [event.type for event in events[:-1]] == ["transcript.text.delta"] * (len(events) - 1)
    assert events[-1].type == "transcript.text.done"
    assert SENTENCE in normalize(events[-1].text)
    assert "".join(event.delta for event in events[:-1]) == events[-1].text  # type: ignore[union-attr]


def test_openai_translates(server: Server, jfk: Path) -> None:
    with pytest.warns(DeprecationWarning):  # OpenAI ends its own endpoint
        result = server.openai().audio.translations.create(model="whisper-1", file=jfk)
    assert SENTENCE in normalize(result.text)


def test_openai_streams_speech(server: Server) -> None:
    create = server.openai().audio.speech.with_streaming_response.create
    with create(model=TTS, voice="af_heart", input=FOX, response_format="wav") as response:
        speech = b"".join(response.iter_bytes())
    assert wer([FOX], [heard(server, speech)]) == 0


class TestOpenWebUI:
    """The requests of Open WebUI's audio router, as it sends them."""

    def test_transcription(self, server: Server, jfk: Path) -> None:
        """Its file part carries no useful content type; it reads `text` of the JSON."""
        files = {"file": (jfk.name, jfk.read_bytes(), "application/octet-stream")}
        with server.http(headers={"Authorization": "Bearer unused"}) as http:
            answer = http.post("/v1/audio/transcriptions", data={"model": ASR, "language": "en"}, files=files)
        assert SENTENCE in normalize(answer.json()["text"])

    def test_no_file_type_at_all(self, server: Server, jfk: Path) -> None:
        part = b'Content-Disposition: form-data; name="%s"%s\r\n\r\n%s'
        parts = [part % (b"model", b"", ASR.encode()), part % (b"file", b'; filename="blob"', jfk.read_bytes())]
        body = b"".join(b"--x\r\n" + piece + b"\r\n" for piece in parts) + b"--x--\r\n"
        headers = {"Content-Type": "multipart/form-data; boundary=x"}
        with server.http() as http:
            answer = http.post("/v1/audio/transcriptions", content=body, headers=headers)
        assert SENTENCE in normalize(answer.json()["text"])

    def test_pieces_of_a_large_file_come_at_the_same_time(self, server: Server, jfk: Path) -> None:
        """It splits a file into mp3 pieces and posts them all at once; one refusal fails the lot."""
        piece = audio.encode(audio.decode(jfk, 44_100), 44_100, "mp3", "libmp3lame")

        def post(index: int) -> httpx.Response:
            with server.http() as http:
                files = {"file": (f"piece_{index}.mp3", piece, "audio/mpeg")}
                return http.post("/v1/audio/transcriptions", data={"model": ASR}, files=files)

        with ThreadPoolExecutor(5) as pool:
            answers = list(pool.map(post, range(5)))
        assert [answer.status_code for answer in answers] == [200] * 5
        assert all(SENTENCE in normalize(answer.json()["text"]) for answer in answers)

    def test_error_is_read_from_the_message(self, server: Server) -> None:
        with server.http() as http:
            answer = http.post("/v1/audio/transcriptions", data={"model": ASR}, files={"file": ("a.mp3", b"no sound")})
        assert answer.status_code == 400
        assert answer.json()["error"]["message"]

    def test_speech(self, server: Server) -> None:
        """It sends no response_format and insists on an audio type."""
        with server.http() as http:
            answer = http.post("/v1/audio/speech", json={"input": FOX, "voice": "af_heart", "model": TTS})
        assert answer.headers["content-type"].startswith("audio/")
        assert wer([FOX], [heard(server, answer.content)]) == 0

    def test_default_voice(self, server: Server) -> None:
        """OpenAI's alloy."""
        with server.http() as http:
            answer = http.post("/v1/audio/speech", json={"input": "Hello.", "voice": "alloy", "model": "tts-1"})
        assert answer.status_code == 200
        assert np.abs(audio.decode(io.BytesIO(answer.content).getvalue(), 24_000)).max() > 3000

    def test_lists_are_read_without_a_token(self, pooled: Callable[..., Server]) -> None:
        server = pooled(AUTH_TOKEN="t", PUBLIC_LISTS="true")
        with server.http() as http:
            voices = http.get("/v1/audio/voices").json()["voices"]
            assert {"af_heart", "am_adam"} <= {voice["id"] for voice in voices}
            assert all(voice["name"] for voice in voices)
            assert {ASR, TTS} <= {model["id"] for model in http.get("/v1/models").json()["data"]}
            assert {"tts-1", TTS} <= {model["id"] for model in http.get("/v1/audio/models").json()["models"]}
            assert http.post("/v1/audio/speech", json={"model": TTS, "input": "Hello."}).status_code == 401
