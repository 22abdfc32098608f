"""Requests of programs that cannot be installed here, as their source makes them, against a server on its defaults."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest

from harness import audio
from harness.server import ASR, JFK_WORDS, Server
from harness.words import normalize, wer

pytestmark = pytest.mark.clients
FOX = "The quick brown fox jumps over the lazy dog."
SPEECH, HEAR = "/v1/audio/speech", "/v1/audio/transcriptions"


@pytest.fixture
def http(defaults: Server) -> Iterator[httpx.Client]:
    with defaults.http(headers={"Authorization": "Bearer sk-unused"}) as client:
        yield client


def understood(server: Server, answer: httpx.Response) -> None:
    """The answer is the fox as audio."""
    assert answer.status_code == 200, answer.text
    assert answer.headers["content-type"].startswith("audio/")
    assert wer([FOX], [server.transcribe(answer.content, model=ASR, language="en").json()["text"]]) == 0


def heard(answer: httpx.Response) -> None:
    assert answer.status_code == 200, answer.text
    assert JFK_WORDS in normalize(answer.json()["text"])


class TestSfortisOpenaiTts:
    """sfortis/openai_tts, a text-to-speech integration of Home Assistant."""

    def test_its_check_of_the_key(self, http: httpx.Client) -> None:
        assert http.post(SPEECH, json={"model": "tts-1", "input": ".", "voice": "alloy"}).status_code == 200

    def test_speech(self, defaults: Server, http: httpx.Client) -> None:
        body = {"model": "tts-1", "input": FOX, "voice": "shimmer", "response_format": "wav", "speed": 1.0}
        understood(defaults, http.post(SPEECH, json=body))

    def test_voices(self, http: httpx.Client) -> None:
        assert http.get("/v1/audio/voices", params={"limit": 100}).json()["voices"]


class TestN8n:
    """The OpenAI node of n8n."""

    @pytest.mark.parametrize("voice", ["alloy", "echo", "fable", "nova", "onyx", "shimmer"])
    def test_its_voices(self, http: httpx.Client, voice: str) -> None:
        body = {"model": "tts-1", "input": "Hello.", "voice": voice, "response_format": "mp3", "speed": 1}
        answer = http.post(SPEECH, json=body)
        assert (answer.status_code, answer.headers["content-type"]) == (200, "audio/mpeg")

    @pytest.mark.parametrize("action", ["transcriptions", "translations"])
    def test_audio_to_text(self, http: httpx.Client, recording: Path, action: str) -> None:
        form = {"model": "whisper-1", "temperature": "0"} | ({"language": "en"} if action == "transcriptions" else {})
        files = {"file": ("data.wav", recording.read_bytes(), "audio/wav")}
        heard(http.post(f"/v1/audio/{action}", data=form, files=files))


def test_sillytavern(defaults: Server, http: httpx.Client) -> None:
    body = {"input": FOX, "voice": "alloy", "response_format": "mp3", "speed": 1, "model": "tts-1"}
    understood(defaults, http.post(SPEECH, json=body))


class TestLibreChat:
    def test_speech(self, defaults: Server, http: httpx.Client) -> None:
        body = {"input": FOX, "model": "tts-1", "voice": "nova", "backend": None}
        understood(defaults, http.post(SPEECH, json=body, headers={"Accept": "audio/mpeg"}))

    def test_what_a_browser_recorded(self, http: httpx.Client, recording: Path) -> None:
        webm = audio.encode(audio.decode(recording, 48_000), 48_000, "webm", "libopus")
        heard(http.post(HEAR, data={"model": "whisper-1"}, files={"file": ("audio.webm", webm, "audio/webm")}))


def test_home_assistants_openai_stt(assistant: Server, recording: Path) -> None:
    """einToast/openai_stt_ha gives up after ten seconds."""
    form = {"model": "whisper-1", "prompt": "", "temperature": "0", "response_format": "json", "language": "nb"}
    files = {"file": ("audio.wav", recording.read_bytes(), "audio/wav")}
    with assistant.http() as http:
        assert http.post(HEAR, data=form, files=files).status_code == 200
        heard(http.post(HEAR, data={**form, "language": "en"}, files=files))


def test_obsidians_whisper(pooled: Callable[..., Server], recording: Path) -> None:
    """A page of Obsidian's own origin: the browser in it asks first, and needs the permission with each answer."""
    origin = {"Origin": "app://obsidian.md"}
    asked = {"Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": "authorization,content-type"}
    with pooled(CORS_ORIGINS="app://obsidian.md").http() as http:
        preflight = http.options(HEAR, headers={**origin, **asked})
        files = {"file": ("recording.wav", recording.read_bytes(), "audio/wav")}
        answer = http.post(HEAR, data={"model": "whisper-1", "language": "auto"}, files=files, headers=origin)
    assert preflight.status_code == 200
    heard(answer)
    for seen in (preflight, answer):
        assert seen.headers["access-control-allow-origin"] == "app://obsidian.md"
