"""What people put between a program and an OpenAI server, unmodified and from PyPI, against the real server."""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import signal
import socket
import subprocess
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import httpx
import pytest

from harness.server import Server, free_ports, wait_until
from harness.words import normalize, wer
from tests.clients.environment import HERE

pytestmark = pytest.mark.clients
ASR, TTS = "whisper-base", "kokoro-82m"
SENTENCE = "ask not what your country can do for you"
OFFLINE = {"LITELLM_LOCAL_MODEL_COST_MAP": "True"}
FOX = "The quick brown fox jumps over the lazy dog."


def heard(server: Server, speech: bytes) -> str:
    """The words of a made speech, by the server itself."""
    with server.http() as http:
        form = {"model": ASR, "language": "en", "response_format": "text"}
        return http.post("/v1/audio/transcriptions", files={"file": ("a.wav", speech)}, data=form).text


def run(python: Path, script: str, *args: object, timeout: float = 180, **variables: str) -> dict[str, Any]:
    """What a client script prints. It knows this machine's server only, and asks the internet for nothing."""
    done = subprocess.run(
        [python, HERE / script, *map(str, args)],
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
        env={**os.environ, **OFFLINE, **variables},
    )
    assert done.returncode == 0, done.stderr[-3000:]
    answer: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return answer


def test_litellm(
    defaults: Server, recording: Path, tmp_path: Path, client_python: Callable[..., Path], ran: Callable[[str], None]
) -> None:
    spoken = tmp_path / "spoken.wav"
    answer = run(client_python("litellm"), "use_litellm.py", defaults.url, recording, spoken)
    for made in ("plain", "words", "options"):
        assert SENTENCE in normalize(answer[made]["text"])
    assert answer["words"]["words"] and answer["words"]["segments"]
    assert answer["words"]["duration"] == pytest.approx(11.0, abs=0.05)
    assert "no-such-model" in answer["error"]
    assert wer([FOX], [heard(defaults, spoken.read_bytes())]) == 0
    ran(f"litellm {answer['version']}: heard json, verbose_json, options; spoke wav; an error")


@contextlib.contextmanager
def serving(command: Sequence[str | Path], port: int, log: Path, **variables: str) -> Iterator[None]:
    """A program that listens on this port, for as long as the context lasts."""
    with log.open("wb") as file:
        process = subprocess.Popen(command, stdout=file, stderr=file, env={**os.environ, **OFFLINE, **variables})
    try:
        wait_until(lambda: process.poll() is not None or _listening(port), 240, f"{log.stem} listens")
        assert process.poll() is None, log.read_text()[-3000:]
        yield
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(timeout=10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


@pytest.fixture
def wyoming(assistant: Server, tmp_path: Path, client_python: Callable[..., Path]) -> Iterator[tuple[Path, str]]:
    """wyoming-openai as docs/clients.md starts it: its Python and its address."""
    python = client_python("wyoming", "3.12", "3.13", "3.14")
    (port,) = free_ports(1)
    command: list[str | Path] = [python, "-m", "wyoming_openai", "--uri", f"tcp://127.0.0.1:{port}"]
    command += ["--stt-openai-url", f"{assistant.url}/v1", "--tts-openai-url", f"{assistant.url}/v1"]
    command += ["--stt-models", ASR, "--stt-streaming-models", ASR, "--languages", "en"]
    command += ["--tts-backend", "KOKORO_FASTAPI", "--tts-models", TTS, "--tts-streaming-models", TTS]
    with serving(command, port, tmp_path / "wyoming.log"):
        yield python, f"tcp://127.0.0.1:{port}"


def _listening(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), timeout=1).close()
    except OSError:
        return False
    return True


def test_wyoming_openai(
    assistant: Server, recording: Path, tmp_path: Path, wyoming: tuple[Path, str], ran: Callable[[str], None]
) -> None:
    python, uri = wyoming
    spoken, streamed = tmp_path / "spoken.wav", tmp_path / "streamed.wav"
    answer = run(python, "use_wyoming.py", uri, recording, spoken, streamed)
    with assistant.http() as http:
        voices = [entry["voice"] for entry in http.get("/v1/audio/voices").json()["voices"] if entry["model"] == TTS]
    assert answer["info"]["asr"] == [ASR] and set(answer["info"]["tts"]) == set(voices)
    assert SENTENCE in normalize(answer["heard"]["text"])
    assert answer["heard"]["pieces"] and SENTENCE in normalize("".join(answer["heard"]["pieces"]))
    assert (answer["speech"]["rate"], answer["speech"]["channels"], answer["speech"]["width"]) == (24_000, 1, 2)
    assert wer([FOX] * 2, [heard(assistant, file.read_bytes()) for file in (spoken, streamed)]) == 0
    ran(f"wyoming-openai {answer['version']}: told its voices, heard a stream, spoke at once and while it was written")


def test_litellm_proxy(
    defaults: Server, recording: Path, tmp_path: Path, client_python: Callable[..., Path], ran: Callable[[str], None]
) -> None:
    """Its configuration is that of docs/clients.md."""
    python, key = client_python("litellm"), f"sk-{secrets.token_hex(24)}"
    (port,) = free_ports(1)
    server = {"api_base": f"{defaults.url}/v1", "api_key": "unused"}
    models = [
        {"model_name": name, "litellm_params": {"model": f"openai/{name}", **server}, "model_info": {"mode": mode}}
        for name, mode in (("whisper-1", "audio_transcription"), ("tts-1", "audio_speech"))
    ]
    settings = tmp_path / "proxy.yaml"
    settings.write_text(json.dumps({"model_list": models}))  # JSON is YAML
    command: list[str | Path] = [
        python.with_name("litellm"),
        "--config",
        settings,
        "--host",
        "127.0.0.1",
        "--port",
        str(port),
    ]
    with serving(command, port, tmp_path / "litellm.log", LITELLM_MASTER_KEY=key):
        url = f"http://127.0.0.1:{port}"
        answer = run(python, "use_litellm_proxy.py", url, recording, tmp_path, LITELLM_MASTER_KEY=key)
    assert all(SENTENCE in normalize(text) for text in answer["transcripts"].values())
    facts = {"words": True, "cues": True, "duration": 11, "models": ["tts-1", "whisper-1"], "refused": 400}
    assert answer["facts"] == facts
    speeches = [heard(defaults, (tmp_path / file).read_bytes()) for file in answer["speeches"].values()]
    assert speeches and wer([FOX] * len(speeches), speeches) == 0
    ran(f"LiteLLM proxy {answer['versions']['litellm']}: heard {', '.join(answer['transcripts'])}; spoke; an error")


@pytest.fixture
def open_webui(
    defaults: Server, tmp_path: Path, client_python: Callable[..., Path], ran: Callable[[str], None]
) -> Iterator[httpx.Client]:
    """Open WebUI's own server with the audio settings of docs/clients.md, as its only user."""
    python, url = client_python("open_webui"), f"{defaults.url}/v1"
    (port,) = free_ports(1)
    (tmp_path / "data").mkdir()
    variables = {
        "DATA_DIR": str(tmp_path / "data"),
        "OFFLINE_MODE": "true",
        "RAG_EMBEDDING_ENGINE": "openai",
        "WEBUI_AUTH": "False",
        "WEBUI_SECRET_KEY": secrets.token_hex(32),
        "AUDIO_STT_MODEL": "whisper-1",
    }
    for kind in ("AUDIO_STT", "AUDIO_TTS"):
        address = {f"{kind}_OPENAI_API_BASE_URL": url, f"{kind}_OPENAI_API_KEY": "unused"}
        variables |= {f"{kind}_ENGINE": "openai", **address}
    command: list[str | Path] = [python.with_name("open-webui"), "serve", "--host", "127.0.0.1", "--port", str(port)]
    with (
        serving(command, port, tmp_path / "open-webui.log", **variables),
        httpx.Client(base_url=f"http://127.0.0.1:{port}/api", timeout=180) as http,
    ):
        signed_in = http.post("/v1/auths/signin", json={"email": "", "password": ""})
        http.headers["Authorization"] = f"Bearer {signed_in.raise_for_status().json()['token']}"
        yield http
        ran(f"Open WebUI {http.get('/version').json()['version']}: listed, heard wav and flac, spoke")


def test_open_webui(defaults: Server, jfk: Path, recording: Path, open_webui: httpx.Client) -> None:
    models = {model["id"] for model in open_webui.get("/v1/audio/models").json()["models"]}
    assert {"tts-1", TTS} <= models and not {"whisper-1", ASR} & models
    assert "af_heart" in {voice["id"] for voice in open_webui.get("/v1/audio/voices").json()["voices"]}
    for file in (recording, jfk):
        part = (file.name, file.read_bytes(), f"audio/{file.suffix[1:]}")
        answer = open_webui.post("/v1/audio/transcriptions", files={"file": part})
        assert SENTENCE in normalize(answer.json()["text"]), answer.text
    for voice, model in (("alloy", "tts-1"), ("af_heart", TTS)):
        body = {"input": FOX, "voice": voice, "model": model}
        speech = open_webui.post("/v1/audio/speech", json=body)
        assert (speech.status_code, speech.headers["content-type"]) == (200, "audio/mpeg"), speech.text
        assert wer([FOX], [heard(defaults, speech.content)]) == 0
