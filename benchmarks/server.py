"""talkies, started for one run or already running, and what is measured through it."""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import signal
import socket
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import httpx
from talkies.settings import Settings
from talkies.triton import Triton

from benchmarks.audio import SENTENCES, Corpus

_TIMEOUT = 1800.0
_START_TIMEOUT = 60.0


@dataclass(frozen=True, slots=True)
class Server:
    """A talkies that answers."""

    url: str
    grpc: str
    pid: int | None
    """None when it is not ours, and its memory cannot be read."""
    asr: str
    tts: str
    voice: str

    def transcribe(self, path: Path) -> tuple[float, str]:
        """Seconds from sending the file to its text, as `curl -F` does it, and the text."""
        with httpx.Client(base_url=self.url, timeout=_TIMEOUT) as http, path.open("rb") as audio:
            started = time.perf_counter()
            answer = http.post("/v1/audio/transcriptions", data={"model": self.asr}, files={"file": (path.name, audio)})
            answer.raise_for_status()
            return time.perf_counter() - started, str(answer.json()["text"])

    def speak(self) -> float:
        """Seconds until the whole speech is here, over HTTP."""
        body = {"model": self.tts, "voice": self.voice, "input": " ".join(SENTENCES), "response_format": "wav"}
        with httpx.Client(base_url=self.url, timeout=_TIMEOUT) as http:
            started = time.perf_counter()
            http.post("/v1/audio/speech", json=body).raise_for_status()
            return time.perf_counter() - started

    def first_audio(self) -> float:
        """Seconds until the first PCM of the same speech is here, over gRPC: HTTP answers are buffered."""
        return asyncio.run(self._first_audio())

    async def _first_audio(self) -> float:
        triton = Triton(self.grpc, "")
        started, first = time.perf_counter(), 0.0
        try:
            text = " ".join(SENTENCES)
            stream = triton.synthesize(
                self.tts, text, voice=self.voice, speed=1.0, language="", request_id="", within=_TIMEOUT
            )
            async for _ in stream:
                first = first or time.perf_counter() - started
        finally:
            await triton.close()
        return first

    def unload(self) -> None:
        httpx.post(f"{self.url}/unload", timeout=_TIMEOUT).raise_for_status()

    def memory(self) -> dict[str, float]:
        """Resident MB of the server's processes by name; empty when it is not ours."""
        return {_name(pid): resident(pid) for pid in _tree(self.pid)} if self.pid else {}


def measure(server: Server, corpus: Corpus, *, repeats: int) -> dict[str, object]:
    """All figures, in seconds; the memory in MB."""
    server.unload()
    cold_asr, _ = server.transcribe(corpus.short)
    latency = statistics.median(server.transcribe(corpus.short)[0] for _ in range(3 * repeats))
    clips = statistics.median(_together(server, corpus.clips) for _ in range(repeats))
    memory_short = server.memory()
    # The second of two: the library's best batch size is not its process's first either.
    long, text = [server.transcribe(corpus.long) for _ in range(2)][-1]
    memory_long = server.memory()
    server.unload()
    started = time.perf_counter()
    httpx.post(
        f"{server.url}/v1/audio/speech",
        json={"model": server.tts, "voice": server.voice, "input": SENTENCES[0], "response_format": "pcm"},
        timeout=_TIMEOUT,
    ).raise_for_status()
    cold_tts = time.perf_counter() - started
    firsts, totals = zip(*((server.first_audio(), server.speak()) for _ in range(repeats)), strict=True)
    return {
        "latency": latency,
        "clips": clips,
        "long": long,
        "text": text,
        "cold_asr": cold_asr,
        "cold_tts": cold_tts,
        "first": statistics.median(firsts),
        "total": statistics.median(totals),
        "rss": {**memory_short, **memory_long, **server.memory()},
    }


def _together(server: Server, clips: tuple[Path, ...]) -> float:
    with ThreadPoolExecutor(len(clips)) as pool:
        started = time.perf_counter()
        list(pool.map(server.transcribe, clips))
        return time.perf_counter() - started


@contextlib.contextmanager
def running(settings: Settings, data: Path, voice: str) -> Iterator[Server]:
    """A server on free ports with a data folder of its own, but the environments and weights of `settings`."""
    (data / "models").symlink_to(settings.data_dir / "models")
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in range(3)]
        port, grpc, metrics = (s.getsockname()[1] for s in sockets)
    variables = {
        "TALKIES_DATA_DIR": str(data),
        "TALKIES_ENVS_DIR": str(settings.envs),
        "TALKIES_HOST": "127.0.0.1",
        "TALKIES_PORT": str(port),
        "TALKIES_GRPC_PORT": str(grpc),
        "TALKIES_METRICS_PORT": str(metrics),
        "TALKIES_MAX_LOADED_MODELS": "2",
        "TALKIES_PRELOAD": "",
        "TALKIES_TRITON_URL": "",
    }
    with (data / "talkies.log").open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "talkies", "serve", "--no-prepare"],
            stdout=log,
            stderr=log,
            env={**os.environ, **variables},
        )
    url = f"http://127.0.0.1:{port}"
    try:
        _wait(lambda: httpx.get(f"{url}/healthz", timeout=2).is_success, process, data / "talkies.log")
        yield Server(
            url, f"127.0.0.1:{grpc}", process.pid, settings.default_asr_model, settings.default_tts_model, voice
        )
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(timeout=60)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _wait(ready: Callable[[], bool], process: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + _START_TIMEOUT
    while True:
        with contextlib.suppress(httpx.TransportError):
            if ready():
                return
        if process.poll() is not None or time.monotonic() > deadline:
            raise SystemExit(f"talkies did not start:\n{log.read_text()[-2000:]}")
        time.sleep(0.1)


def _tree(root: int) -> list[int]:
    children: dict[int, list[int]] = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            state, parent = stat.read_text().rpartition(")")[2].split()[:2]
            if state != "Z":
                children.setdefault(int(parent), []).append(int(stat.parent.name))
    found = [root]
    for pid in found:
        found += children.get(pid, [])
    return found


def _name(pid: int) -> str:
    command = Path(f"/proc/{pid}/cmdline").read_text().replace("\0", " ")
    if model := re.search(r"/([^/ ]+)/\d+/model\.py", command):
        return model[1]
    return "tritonserver" if "/tritonserver " in command else "talkies"


def resident(pid: int) -> float:
    """Resident MB of a process."""
    status = Path(f"/proc/{pid}/status").read_text()
    return next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmRSS")) / 1024
