"""Many clients of every kind at once: whether each answer is right, and how long the short ones wait."""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import re
import statistics
import tempfile
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import httpx
from rich.console import Console
from rich.table import Table
from talkies.settings import PROJECT, Settings

from benchmarks.audio import SENTENCES, Corpus, corpus, seconds
from benchmarks.server import serving
from harness.processes import resident
from harness.server import ASR, TTS, Server

CLIENTS = {"clip": 30, "long": 2, "speech": 10, "file": 8, "list": 1}
"""How many of the 50 clients do what, each one thing after the other, and one that only asks for a list."""
SLOW = 200
"""Connections beside them whose requests never come to an end: half in the header, half in the body."""
_CHEAP = 0.1
"""Seconds that a list may take at the 95th percentile, whatever goes on."""
SPEECH = "and so my fellow americans ask not what your country can do for you ask what you can do for your country"
CLIP = "and so my fellow americans"
"""What the first three seconds say."""
_LONGEST_PAUSE = 0.5
_ALIKE = 0.75
"""Share of the words that must be right: a small Whisper is not sure of a sentence that it hears again and again."""
_FILE_BYTES = 256 << 10
_REFUSED = "503 with Retry-After"
_TIMEOUT = 1800.0


@dataclass(frozen=True, slots=True)
class Outcome:
    """One request; `fault` is empty when it was answered and the answer was right."""

    kind: str
    seconds: float
    fault: str


@dataclass(slots=True)
class Load:
    """The clients, and what became of their requests."""

    url: str
    recordings: Corpus
    asr: str
    tts: str
    outcomes: list[Outcome] = field(default_factory=list)
    spoken_bytes: int = 0
    """Length of the right speech, made before the load: Kokoro's timing does not change from call to call."""

    async def warm_up(self) -> None:
        """Load both models and learn how long the right speech is."""
        async with self._http() as http:
            answer = await http.post("/v1/audio/speech", json=self._text())
            self.spoken_bytes = len(answer.raise_for_status().content)
            if fault := await self._transcribe(http, self.recordings.short, CLIP.split()):
                raise SystemExit(f"a clip before the load: {fault}")

    async def run(self, clients: dict[str, int], duration: float) -> None:
        """`clients` of each kind at once for `duration` seconds, then until their last answers are here."""
        words = SPEECH.split() * round(seconds(self.recordings.long) / 12)
        work: dict[str, Callable[[httpx.AsyncClient], Awaitable[str]]] = {
            "clip": lambda http: self._transcribe(http, self.recordings.short, CLIP.split()),
            "long": lambda http: self._transcribe(http, self.recordings.long, words),
            "speech": self._speak,
            "file": self._stage,
            "list": self._list,
        }
        until = time.monotonic() + duration
        async with asyncio.TaskGroup() as group:
            for kind, count in clients.items():
                for _ in range(count):
                    group.create_task(self._client(kind, work[kind], until))

    async def active(self) -> int:
        """Requests that the server believes to be running."""
        async with self._http() as http:
            return sum(model["active_requests"] for model in (await http.get("/api/ps")).json()["models"])

    def faults(self) -> Counter[tuple[str, str]]:
        """How often (kind, fault) occurred."""
        return Counter((outcome.kind, outcome.fault) for outcome in self.outcomes if outcome.fault)

    def errors(self) -> list[Outcome]:
        """What must not happen: every fault but a 503 that says when to come back."""
        return [outcome for outcome in self.outcomes if outcome.fault not in ("", _REFUSED)]

    async def _client(self, kind: str, work: Callable[[httpx.AsyncClient], Awaitable[str]], until: float) -> None:
        async with self._http() as http:
            while time.monotonic() < until:
                await asyncio.sleep(random.uniform(0, _LONGEST_PAUSE))  # noqa: S311
                started = time.monotonic()
                try:
                    fault = await work(http)
                except httpx.TransportError as error:
                    fault = type(error).__name__
                self.outcomes.append(Outcome(kind, time.monotonic() - started, fault))
                if fault == _REFUSED:
                    await asyncio.sleep(1)

    async def _transcribe(self, http: httpx.AsyncClient, path: Path, words: list[str]) -> str:
        files = {"file": (path.name, await asyncio.to_thread(path.read_bytes))}
        form = {"model": self.asr, "language": "en"}
        answer = await http.post("/v1/audio/transcriptions", data=form, files=files)
        if not answer.is_success:
            return _refusal(answer)
        heard = re.sub(r"[^a-z\s]", " ", answer.json()["text"].lower()).split()
        # Counted, not aligned: in a text that repeats itself an alignment slips by a whole repeat.
        alike = (Counter(words) & Counter(heard)).total() / max(len(words), len(heard))
        return "" if alike >= _ALIKE else f"{len(heard)} words, {alike:.0%} right, of {len(words)}"

    def _text(self) -> dict[str, str]:
        return {"model": self.tts, "voice": "af_heart", "input": SENTENCES[0], "response_format": "wav"}

    async def _speak(self, http: httpx.AsyncClient) -> str:
        answer = await http.post("/v1/audio/speech", json=self._text())
        if not answer.is_success:
            return _refusal(answer)
        return "" if len(answer.content) == self.spoken_bytes else f"speech of {len(answer.content)} bytes"

    async def _stage(self, http: httpx.AsyncClient) -> str:
        content, path = os.urandom(_FILE_BYTES), f"/v1/files/load/{os.urandom(8).hex()}.bin"
        for step in (http.put(path, content=content), http.get(path), http.delete(path)):
            answer = await step
            if not answer.is_success:
                return _refusal(answer)
            if answer.request.method == "GET" and answer.content != content:
                return "another file came back"
        return ""

    async def _list(self, http: httpx.AsyncClient) -> str:
        answer = await http.get("/v1/models")
        return "" if answer.is_success else _refusal(answer)

    async def dawdle(self, duration: float) -> None:
        """Send a request so slowly that it does not end, a byte a second, and again when the server has hung up."""
        url = httpx.URL(self.url)
        until = time.monotonic() + duration
        head = f"POST /v1/audio/transcriptions HTTP/1.1\r\nHost: {url.netloc.decode()}\r\n"
        body = head + "Content-Type: multipart/form-data; boundary=x\r\nContent-Length: 100000\r\n\r\n--x\r\n"
        start = random.choice((head, body)).encode()  # noqa: S311
        while time.monotonic() < until:
            with contextlib.suppress(OSError):
                _, writer = await asyncio.open_connection(url.host, url.port)
                try:
                    writer.write(start)
                    while time.monotonic() < until:
                        await asyncio.sleep(1)
                        writer.write(b"x")
                        await writer.drain()
                finally:
                    writer.transport.abort()

    @asynccontextmanager
    async def _http(self) -> AsyncIterator[httpx.AsyncClient]:
        async with httpx.AsyncClient(base_url=self.url, timeout=_TIMEOUT) as http:
            yield http


def _refusal(answer: httpx.Response) -> str:
    if answer.status_code == 503 and "retry-after" in answer.headers:
        return _REFUSED
    return f"{answer.status_code}: {answer.text[:80]}"


def main(settings: Settings, duration: float) -> bool:
    """The load against a server of its own, as a table; whether it was borne."""
    with tempfile.TemporaryDirectory(prefix="talkies-load-") as scratch:
        recordings = corpus(None, PROJECT / "tests" / "data" / "jfk.flac", Path(scratch))
        data = Path(scratch) / "data"
        data.mkdir()
        with serving(settings, data) as server:
            return asyncio.run(_measure(server, recordings, duration))


async def _measure(server: Server, recordings: Corpus, duration: float) -> bool:
    memory = [resident(server.process.pid)]
    load = Load(server.url, recordings, ASR, TTS)
    await load.warm_up()
    await load.run(CLIENTS, duration / 4)
    load.outcomes.clear()
    memory.append(resident(server.process.pid))
    async with asyncio.TaskGroup() as group:
        for _ in range(SLOW):
            group.create_task(load.dawdle(duration))
        await load.run(CLIENTS, duration)
    memory.append(resident(server.process.pid))
    table = Table("kind", "requests", "p50 s", "p95 s", "p95 / p50", "faults")
    for kind in CLIENTS:
        times = [outcome.seconds for outcome in load.outcomes if outcome.kind == kind and not outcome.fault]
        faults = {fault: count for (of, fault), count in load.faults().items() if of == kind}
        p50, p95 = percentiles(times)
        figures = f"{p50:.2f}", f"{p95:.2f}", f"{p95 / p50:.1f}" if p50 else ""
        table.add_row(kind, str(len(times)), *figures, ", ".join(f"{n} x {fault}" for fault, n in faults.items()))
    console = Console()
    console.print(table)
    console.print("facade MB at the start, after the warm-up, at the end: " + ", ".join(f"{mb:.0f}" for mb in memory))
    active = await load.active()
    console.print(f"active requests afterwards: {active}")
    p50, p95 = percentiles(o.seconds for o in load.outcomes if o.kind == "clip" and not o.fault)
    _, cheap = percentiles(o.seconds for o in load.outcomes if o.kind == "list")
    small = memory[2] <= memory[1] * 1.1 + 10
    borne = not load.errors() and active == 0 and p95 <= 4 * p50 and cheap <= _CHEAP and small
    why = f"not borne: an error, a request that never ended, p95 above 4 x p50, a list above {_CHEAP} s, or memory"
    console.print("borne" if borne else why)
    return borne


def percentiles(times: Iterable[float]) -> tuple[float, float]:
    """The 50th and the 95th percentile; zeros of nothing."""
    ordered = sorted(times)
    if len(ordered) < 2:
        return (ordered[0], ordered[0]) if ordered else (0.0, 0.0)
    cuts = statistics.quantiles(ordered, n=20, method="inclusive")
    return cuts[9], cuts[18]
