"""A running talkies: reached over HTTP and gRPC, started for a test or a benchmark, and pooled by its settings."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import openai
from talkies.settings import PROJECT, address

from harness import processes

ASR, TTS = "whisper-base", "kokoro-82m"
JFK = PROJECT / "tests" / "data" / "jfk.flac"
"""11 s of John F. Kennedy, 44.1 kHz stereo."""
JFK_TEXT = (
    "And so my fellow Americans, ask not what your country can do for you, ask what you can do for your country. "
)
JFK_WORDS = "ask not what your country can do for you"
"""Of it, what every model hears right, normalized."""
_TIMEOUT = 300.0
_START, _STOP = 60.0, 60.0


@dataclass(frozen=True, slots=True)
class Service:
    """A talkies that answers, whoever started it."""

    url: str
    grpc: str
    """host:port."""

    def http(self, **options: Any) -> httpx.Client:
        return httpx.Client(**{"base_url": self.url, "timeout": _TIMEOUT, **options})

    def transcribe(self, audio: Path | bytes, name: str = "", **fields: Any) -> httpx.Response:
        """The answer to a file and form fields; by default by Whisper."""
        data = audio.read_bytes() if isinstance(audio, Path) else audio
        files = {"file": (name or (audio.name if isinstance(audio, Path) else "a.wav"), data)}
        with self.http() as http:
            return http.post("/v1/audio/transcriptions", files=files, data={"model": ASR, **fields})

    def speak(self, text: str = "Hello.", **fields: Any) -> httpx.Response:
        """The answer to a text and other fields; by default by Kokoro, as MP3."""
        with self.http() as http:
            return http.post("/v1/audio/speech", json={"model": TTS, "input": text, **fields})

    def loaded(self) -> dict[str, dict[str, Any]]:
        """The models in memory by slug, as `GET /api/ps` shows them."""
        with self.http() as http:
            return {entry["model"]: entry for entry in http.get("/api/ps").json()["models"]}

    def active(self) -> int:
        """Requests that are running."""
        return sum(entry["active_requests"] for entry in self.loaded().values())

    def unload(self) -> None:
        """Unload every model."""
        with self.http() as http:
            http.post("/unload").raise_for_status()


@dataclass(frozen=True, slots=True)
class Server(Service):
    """A `talkies serve` of our own, with a data directory for itself."""

    process: subprocess.Popen[bytes]
    data: Path
    metrics_port: int
    clients: list[openai.OpenAI] = field(default_factory=list)

    @property
    def port(self) -> int:
        return int(self.url.rpartition(":")[2])

    def openai(self) -> openai.OpenAI:
        """The official client, closed with the server: one that is left to the garbage collector warns."""
        if not self.clients:
            client = openai.OpenAI(base_url=f"{self.url}/v1", api_key="unused", max_retries=0, timeout=_TIMEOUT)
            self.clients.append(client)
        return self.clients[0]

    def log(self) -> str:
        return (self.data / "talkies.log").read_text()

    def processes(self) -> list[int]:
        """The pids of the tritonserver and its engine processes."""
        return [process.pid for process in processes.descendants(self.process.pid)]

    def pids(self, model: str) -> list[int]:
        """Those of a loaded Triton model."""
        return processes.named(self.process.pid, model)

    def engine_pid(self, model: str) -> int:
        """The one of a loaded Triton model that has one. Raises LookupError."""
        for pid in self.pids(model):
            return pid
        raise LookupError(f"no process of {model}")

    def triton_pid(self) -> int:
        """Raises LookupError while there is none."""
        return self.engine_pid("tritonserver")


def free_ports(count: int) -> list[int]:
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in range(count)]
        return [s.getsockname()[1] for s in sockets]


def wait_until(condition: Callable[[], object], timeout: float, what: str) -> None:
    """Raises AssertionError with `what` when the condition does not come true in time."""
    deadline = time.monotonic() + timeout
    while not condition():
        assert time.monotonic() < deadline, f"not within {timeout} s: {what}"
        time.sleep(0.05)


def default_home() -> Path:
    """Where environments and weights lie."""
    return Path(os.environ.get("TALKIES_DATA_DIR", PROJECT / "data"))


def _threads() -> int:
    """Of an engine; 0 is as many as there are cores. Lanes of tests beside each other would wait for each other's."""
    workers = int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))
    return max(1, (os.cpu_count() or 1) // workers) if workers > 1 else 0


def start(data: Path, settings: Mapping[str, str], home: Path) -> Server:
    """Start `talkies serve` with `settings` (TALKIES_* variables without the prefix) and wait until it answers.

    It has the data directory `data` to itself, and the environments of `home`; the weights too, unless `data` brings
    its own. Raises RuntimeError with its log when it does not start.
    """
    data.mkdir(parents=True, exist_ok=True)
    if not (data / "models").exists():
        (data / "models").symlink_to(home / "models")
    port, grpc_port, metrics_port = free_ports(3)
    variables = {
        "DATA_DIR": str(data),
        "ENVS_DIR": str(home / "envs"),
        "PORT": str(port),
        "GRPC_PORT": str(grpc_port),
        "METRICS_PORT": str(metrics_port),
        "CPU_THREADS": str(_threads()),
        **settings,
    }
    with (data / "talkies.log").open("ab") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "talkies", "serve", "--no-prepare"],
            stdout=log,
            stderr=log,
            env={name: value for name, value in os.environ.items() if not name.startswith("TALKIES_")}
            | {f"TALKIES_{name}": value for name, value in variables.items()},
        )
    here = "127.0.0.1"
    url = f"http://{address(settings.get('HOST', here), port)}"
    server = Server(url, address(settings.get("GRPC_HOST", here), grpc_port), process, data, metrics_port)
    deadline = time.monotonic() + _START
    while True:
        with contextlib.suppress(httpx.TransportError):
            if httpx.get(f"{server.url}/healthz").is_success:
                return server
        if process.poll() is not None or time.monotonic() > deadline:
            process.kill()
            process.wait()
            raise RuntimeError(f"talkies did not start:\n{server.log()[-3000:]}")
        time.sleep(0.05)


def stop(server: Server) -> None:
    """End the server as an operator does, and whatever it leaves. Raises TimeoutExpired when it does not end."""
    for client in server.clients:
        client.close()
    children = server.processes()
    server.process.send_signal(signal.SIGTERM)
    try:
        server.process.wait(timeout=_STOP)
    except subprocess.TimeoutExpired:
        server.process.kill()
        server.process.wait()
        raise
    finally:
        for pid in children:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)


@contextlib.contextmanager
def running(data: Path, **settings: str) -> Iterator[Server]:
    """A server with the project's environments and weights, for as long as the context lasts; see `start`."""
    server = start(data, settings, default_home())
    try:
        yield server
    finally:
        stop(server)


class Pool:
    """Servers by their settings, at most `size` at a time; the one that was longest unused makes room for another."""

    def __init__(self, folder: Path, size: int) -> None:
        self._folder = folder
        self._size = size
        self._servers: dict[frozenset[tuple[str, str]], Server] = {}
        self._started = 0

    def get(self, **settings: str) -> Server:
        """A running server of these settings, with what they preload in memory."""
        key = frozenset(settings.items())
        server = self._servers.pop(key, None)
        if server and server.process.poll() is not None:
            stop(server)
            server = None
        if server is None:
            while len(self._servers) >= self._size:
                stop(self._servers.pop(next(iter(self._servers))))
            self._started += 1
            server = start(self._folder / str(self._started), settings, default_home())
        else:
            _preload(server, settings.get("PRELOAD", ""))
        self._servers[key] = server
        return server

    def close(self) -> None:
        with ThreadPoolExecutor() as threads:  # ending takes some seconds
            list(threads.map(stop, self._servers.values()))
        self._servers.clear()


def _preload(server: Server, slugs: str) -> None:
    """Bring back what an earlier test has left unloaded or dead."""
    for slug in filter(None, slugs.split(",")):
        answer = server.speak() if slug == TTS else server.transcribe(JFK)
        answer.raise_for_status()
