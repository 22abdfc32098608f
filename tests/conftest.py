"""Fixtures for the tests that run the real server: a shared `server`, and `start_server` for those that break it."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import openai
import pytest

from tests.clients import environment

PROJECT = Path(__file__).resolve().parents[1]
SHARED_AUDIO = PROJECT.parent / "shared" / "audio"


@dataclass(frozen=True, slots=True)
class Server:
    """A running `talkies serve` of its own data directory, with the project's environments and weights."""

    process: subprocess.Popen[bytes]
    data: Path
    port: int
    grpc_port: int
    metrics_port: int
    clients: list[openai.OpenAI] = field(default_factory=list)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def grpc(self) -> str:
        return f"127.0.0.1:{self.grpc_port}"

    def http(self, **options: object) -> httpx.Client:
        return httpx.Client(base_url=self.url, timeout=300, **options)  # type: ignore[arg-type]

    def openai(self) -> openai.OpenAI:
        """The official client, closed with the server: one that is left to the garbage collector warns."""
        if not self.clients:
            self.clients.append(openai.OpenAI(base_url=f"{self.url}/v1", api_key="unused", max_retries=0, timeout=300))
        return self.clients[0]

    def log(self) -> str:
        return (self.data / "talkies.log").read_text()

    def processes(self) -> list[int]:
        """The pids of talkies' descendants: the tritonserver and its engine processes."""
        children: dict[int, list[int]] = {}
        for stat in Path("/proc").glob("[0-9]*/stat"):
            with contextlib.suppress(OSError):
                fields = stat.read_text().rpartition(")")[2].split()
                if fields[0] != "Z":
                    children.setdefault(int(fields[1]), []).append(int(stat.parent.name))
        found, todo = [], [self.process.pid]
        while todo:
            todo += (below := children.get(todo.pop(), []))
            found += below
        return found

    def engine_pid(self, model: str) -> int:
        """The pid of a loaded Triton model's process."""
        for pid in self.processes():
            command = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
            if b"stub" in command[0] and any(f"/{model}/".encode() in part for part in command):
                return pid
        raise LookupError(f"no process of {model}")

    def triton_pid(self) -> int:
        for pid in self.processes():
            if Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")[0].endswith(b"/tritonserver"):
                return pid
        raise LookupError("no tritonserver")


def home() -> Path:
    """Where environments and weights lie."""
    return Path(os.environ.get("TALKIES_DATA_DIR", PROJECT / "data"))


def free_ports(count: int) -> list[int]:
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in range(count)]
        return [s.getsockname()[1] for s in sockets]


def wait_until(condition: Callable[[], object], timeout: float, what: str) -> None:
    deadline = time.monotonic() + timeout
    while not condition():
        assert time.monotonic() < deadline, f"not within {timeout} s: {what}"
        time.sleep(0.05)


@contextlib.contextmanager
def running_server(data: Path, **environment: str) -> Iterator[Server]:
    """Start `talkies serve` with `TALKIES_*` variables given without their prefix; ended with its children."""
    weights = home()
    data.mkdir(parents=True, exist_ok=True)
    if not (data / "models").exists():
        (data / "models").symlink_to(weights / "models")
    port, grpc_port, metrics_port = free_ports(3)
    variables = {
        "DATA_DIR": str(data),
        "ENVS_DIR": str(weights / "envs"),
        "PORT": str(port),
        "GRPC_PORT": str(grpc_port),
        "METRICS_PORT": str(metrics_port),
        **environment,
    }
    with (data / "talkies.log").open("ab") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "talkies", "serve", "--no-prepare"],
            stdout=log,
            stderr=log,
            env={k: v for k, v in os.environ.items() if not k.startswith("TALKIES_")}
            | {f"TALKIES_{k}": v for k, v in variables.items()},
        )
    server = Server(process, data, port, grpc_port, metrics_port)
    try:
        deadline = time.monotonic() + 60
        while True:
            with contextlib.suppress(httpx.TransportError):
                if httpx.get(f"{server.url}/healthz").is_success:
                    break
            assert process.poll() is None and time.monotonic() < deadline, server.log()
            time.sleep(0.1)
        yield server
    finally:
        for client in server.clients:
            client.close()
        children = server.processes()
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(timeout=60)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            raise
        finally:
            for pid in children:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """The shared server, with room for an ASR and a TTS model at the same time."""
    with running_server(tmp_path_factory.mktemp("server"), MAX_LOADED_MODELS="2") as server:
        yield server


@pytest.fixture
def start_server(tmp_path: Path) -> Iterator[Callable[..., Server]]:
    """A server of the test's own: `start_server(MAX_LOADED_MODELS="1")`."""
    with contextlib.ExitStack() as stack:
        yield lambda **environment: stack.enter_context(running_server(tmp_path / "data", **environment))


@pytest.fixture(scope="session")
def client_python() -> Callable[..., Path]:
    """The Python of a client from PyPI in its own environment: `client_python("litellm")`; see `environment.python`."""
    return lambda client, *versions: environment.python(home() / "envs", client, *versions)


@pytest.fixture(scope="session")
def shared_audio() -> Path:
    """The larger audio set beside the project; tests on it skip where it is absent, as in a fresh clone."""
    if not SHARED_AUDIO.is_dir():
        pytest.skip("the larger audio set is not beside this checkout")
    return SHARED_AUDIO


@pytest.fixture(scope="session")
def jfk() -> Path:
    """11 s of John F. Kennedy, 44.1 kHz stereo FLAC."""
    return PROJECT / "tests" / "data" / "jfk.flac"
