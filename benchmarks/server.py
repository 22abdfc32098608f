"""What is measured through a talkies, started for one run or already running."""

from __future__ import annotations

import asyncio
import contextlib
import statistics
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from talkies.engines.triton import Keys, Triton
from talkies.settings import Settings
from talkies_kit.wire import Sampling

from benchmarks.audio import SENTENCES, Corpus
from harness import processes
from harness.server import ASR, TTS, Server, Service, start, stop

_TIMEOUT = 1800.0


@dataclass(frozen=True, slots=True)
class Subject:
    """A talkies that is measured, and with what."""

    service: Service
    asr: str
    tts: str
    voice: str

    @property
    def pid(self) -> int | None:
        """None when it is not ours, and its memory cannot be read."""
        return self.service.process.pid if isinstance(self.service, Server) else None

    def transcribe(self, path: Path) -> tuple[float, str]:
        """Seconds from sending the file to its text, as `curl -F` does it, and the text."""
        started = time.perf_counter()
        answer = self.service.transcribe(path, model=self.asr).raise_for_status()
        return time.perf_counter() - started, str(answer.json()["text"])

    def speak(self, text: str, response_format: str = "wav") -> float:
        """Seconds until the whole speech is here, over HTTP."""
        started = time.perf_counter()
        fields = {"model": self.tts, "voice": self.voice, "response_format": response_format}
        self.service.speak(text, **fields).raise_for_status()
        return time.perf_counter() - started

    def first_audio(self, text: str) -> float:
        """Seconds until the first PCM of the same speech is here, over gRPC: HTTP answers are buffered."""
        return asyncio.run(self._first_audio(text))

    async def _first_audio(self, text: str) -> float:
        triton = Triton(self.service.grpc, Keys())
        started, first = time.perf_counter(), 0.0
        try:
            stream = triton.synthesize(
                self.tts,
                text,
                voice=self.voice,
                speed=1.0,
                language="",
                sampling=Sampling(),
                request_id="",
                within=_TIMEOUT,
            )
            async for _ in stream:
                first = first or time.perf_counter() - started
        finally:
            await triton.close()
        return first

    def memory(self) -> dict[str, float]:
        """Resident MB of the server's processes by name; empty when it is not ours."""
        return processes.memory(self.pid) if self.pid else {}


def measure(subject: Subject, corpus: Corpus, *, repeats: int) -> dict[str, object]:
    """All figures, in seconds; the memory in MB."""
    subject.service.unload()
    spoken = " ".join(SENTENCES)
    cold_asr, _ = subject.transcribe(corpus.short)
    latency = statistics.median(subject.transcribe(corpus.short)[0] for _ in range(3 * repeats))
    clips = statistics.median(_together(subject, corpus.clips) for _ in range(repeats))
    memory_short = subject.memory()
    # The second of two: the library's best batch size is not its process's first either.
    long, text = [subject.transcribe(corpus.long) for _ in range(2)][-1]
    memory_long = subject.memory()
    subject.service.unload()
    cold_tts = subject.speak(SENTENCES[0], "pcm")
    firsts, totals = zip(*((subject.first_audio(spoken), subject.speak(spoken)) for _ in range(repeats)), strict=True)
    return {
        "latency": latency,
        "clips": clips,
        "long": long,
        "text": text,
        "cold_asr": cold_asr,
        "cold_tts": cold_tts,
        "first": statistics.median(firsts),
        "total": statistics.median(totals),
        "rss": {**memory_short, **memory_long, **subject.memory()},
    }


def _together(subject: Subject, clips: tuple[Path, ...]) -> float:
    with ThreadPoolExecutor(len(clips)) as pool:
        started = time.perf_counter()
        list(pool.map(subject.transcribe, clips))
        return time.perf_counter() - started


@contextlib.contextmanager
def serving(settings: Settings, data: Path, **more: str) -> Iterator[Server]:
    """A server on free ports with a data folder of its own, but the environments and weights of `settings`, and with
    `more` settings."""
    (data / "models").symlink_to(settings.data_dir.absolute() / "models")
    server = start(data, {"ENVS_DIR": str(settings.envs), "MAX_LOADED_MODELS": "2", **more}, settings.data_dir)
    try:
        yield server
    finally:
        stop(server)


def subject(service: Service, voice: str) -> Subject:
    """The default models of a service."""
    return Subject(service, ASR, TTS, voice)
