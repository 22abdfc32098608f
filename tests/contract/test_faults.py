"""What breaks and comes back: killed engines, a killed tritonserver, signals. Each test has a server of its own."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest

from tests import audio
from tests.conftest import Server, wait_until
from tests.contract.test_lifecycle import ASR, TTS, loaded, speak, transcribe

LONG_TEXT = "One two three four five six seven eight nine ten. " * 8


class Request(threading.Thread):
    """A request in the background; `status` is its answer's, -1 when the connection broke."""

    def __init__(self, work: Callable[[], int]) -> None:
        super().__init__()
        self._work = work
        self.status = 0
        self.start()

    def run(self) -> None:
        try:
            self.status = self._work()
        except httpx.TransportError:
            self.status = -1


def minutes_of_speech(tmp_path: Path, jfk: Path, minutes: float) -> Path:
    samples = audio.decode(jfk)
    import numpy as np

    path = tmp_path / "long.flac"
    path.write_bytes(audio.encode(np.tile(samples, int(minutes * 60 / 11)), 16_000, "flac", "flac"))
    return path


def test_killed_engine_is_replaced(start_server: Callable[..., Server], jfk: Path, tmp_path: Path) -> None:
    server = start_server(PRELOAD=ASR)
    request = Request(lambda: transcribe(server, minutes_of_speech(tmp_path, jfk, 3)))
    wait_until(lambda: loaded(server).get(ASR, {}).get("active_requests") == 1, 20, "the request is running")
    time.sleep(1)
    os.kill(server.engine_pid(f"{ASR}.engine"), signal.SIGKILL)
    request.join(180)
    assert request.status in (200, 503)
    assert transcribe(server, jfk) == 200


def test_killed_tts_engine_is_replaced(start_server: Callable[..., Server]) -> None:
    server = start_server(PRELOAD=TTS)
    os.kill(server.engine_pid(TTS), signal.SIGKILL)
    assert speak(server) == 200


def test_killed_tritonserver_comes_back(start_server: Callable[..., Server], jfk: Path) -> None:
    # Room for two: the speech, which came first, would otherwise be spoken to its end before the transcription.
    server = start_server(PRELOAD=ASR, MAX_LOADED_MODELS="2")
    assert transcribe(server, jfk) == 200
    triton, engine = server.triton_pid(), server.engine_pid(f"{ASR}.engine")
    request = Request(lambda: speak(server, LONG_TEXT))
    time.sleep(0.5)
    os.kill(triton, signal.SIGKILL)
    killed = time.monotonic()
    wait_until(lambda: transcribe(server, jfk) == 200, 30, "transcription works again")
    assert time.monotonic() - killed < 15
    request.join(60)
    assert request.status in (200, 503)
    assert not Path(f"/proc/{engine}").exists()
    assert server.triton_pid() != triton


def test_sigterm_lets_a_request_finish(start_server: Callable[..., Server]) -> None:
    server = start_server(PRELOAD=TTS)
    request = Request(lambda: speak(server, LONG_TEXT))
    wait_until(lambda: loaded(server)[TTS]["active_requests"] == 1, 20, "the request is running")
    children = server.processes()
    server.process.send_signal(signal.SIGTERM)
    request.join(60)
    assert request.status == 200
    assert server.process.wait(30) == 0
    assert not [pid for pid in children if Path(f"/proc/{pid}").exists()]


def test_nothing_outlives_a_killed_talkies(start_server: Callable[..., Server]) -> None:
    server = start_server(PRELOAD=TTS)
    children = server.processes()
    assert len(children) >= 3
    server.process.kill()
    wait_until(lambda: not any(_alive(pid) for pid in children), 10, "every child process has ended")


def _alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def test_broken_weights_are_a_503(start_server: Callable[..., Server], tmp_path: Path, jfk: Path) -> None:
    models = tmp_path / "data" / "models" / ASR
    models.mkdir(parents=True)
    for name in ("model.bin", "config.json", "tokenizer.json", "vocabulary.txt"):
        (models / name).write_bytes(b"{}")
    server = start_server()
    with server.http() as http:
        files = {"file": ("a.flac", jfk.read_bytes())}
        response = http.post("/v1/audio/transcriptions", files=files, data={"model": ASR})
    assert response.status_code == 503
    assert response.json()["error"]["code"] == "model_unavailable"
    assert "Traceback" not in response.text and str(tmp_path) not in response.text
    with server.http() as http:
        assert http.get("/healthz").json()["ok"] is True


def test_load_deadline(start_server: Callable[..., Server]) -> None:
    server = start_server(LOAD_TIMEOUT="0.05")
    with server.http() as http:
        response = http.post("/v1/audio/speech", json={"model": TTS, "input": "Hello."})
    assert response.status_code == 503
    assert "did not load" in response.json()["detail"]


@pytest.mark.parametrize("variable", ["PORT", "GRPC_PORT"])
def test_taken_port_is_one_sentence(server: Server, tmp_path: Path, variable: str) -> None:
    import subprocess
    import sys

    from tests.conftest import free_ports

    ports = dict(zip(("PORT", "GRPC_PORT", "METRICS_PORT"), map(str, free_ports(3)), strict=True))
    ports[variable] = str(server.port)
    done = subprocess.run(
        [sys.executable, "-m", "talkies", "serve", "--no-prepare"],
        env={**os.environ, "TALKIES_DATA_DIR": str(tmp_path), **{f"TALKIES_{k}": v for k, v in ports.items()}},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 1
    assert f"TALKIES_{variable}={server.port}" in done.stderr
    assert "Traceback" not in done.stderr
