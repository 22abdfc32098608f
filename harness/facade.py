"""The application over services that answer without a tritonserver, for tests of HTTP alone."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import numpy as np
from fastapi import FastAPI
from talkies.app import create_app
from talkies.downloads import Downloads
from talkies.errors import NotFound
from talkies.metrics import Metrics
from talkies.progress import Piece, Progress
from talkies.registry import Model, Registry
from talkies.residency import Resident
from talkies.settings import PROJECT, Settings
from talkies.sources import Sources
from talkies.staging import Staging
from talkies.transcript import Chunk, Transcript, merge
from talkies_kit.wire import AsrOptions, Sampling, Segment, Word

RATE = 24_000
SPOKEN = np.concatenate([np.zeros(2400), 9000 * np.sin(np.arange(21_600) * 0.1)]).astype("<i2").tobytes()
"""One second of speech."""


@dataclass
class FakeTranscriber:
    """Hears "Ask not" in everything; keeps what it was asked."""

    calls: list[dict[str, Any]] = field(default_factory=list)
    failure: Exception | None = None
    started: asyncio.Event = field(default_factory=asyncio.Event)
    hold: asyncio.Event | None = None
    cancelled: bool = False
    late: bool = False
    closed: bool = False
    """A stream has ended, before its upload was removed."""

    async def transcribe(
        self, model: Model, path: Path, options: AsrOptions, *, diarize: bool, request_id: str
    ) -> Transcript:
        call = {"model": model.slug, "path": path, "audio": path.read_bytes(), "options": options}
        self.calls.append({**call, "diarize": diarize, "request_id": request_id})
        self.started.set()
        if self.failure:
            raise self.failure
        if self.hold:
            try:
                await self.hold.wait()
            except asyncio.CancelledError:
                self.cancelled = path.exists()  # an upload outlives the work on it
                raise
        return merge(_heard(options, diarize), task=options.task, language=options.language, diarized=diarize)

    async def stream(
        self, model: Model, path: Path, options: AsrOptions, *, diarize: bool, request_id: str
    ) -> AsyncGenerator[list[Piece] | Transcript]:
        """`failure` comes after the first chunk once `late` is set; `hold` holds there too."""
        failure, hold = self.failure, self.hold
        if self.late:
            self.failure = self.hold = None
        transcript = await self.transcribe(model, path, options, diarize=diarize, request_id=request_id)
        progress = Progress(language=options.language, diarized=diarize, horizon=30)
        try:
            for chunk in _heard(options, diarize):
                yield progress.add(chunk)
            if self.late and failure:
                raise failure
            if self.late and hold:
                await hold.wait()
            yield progress.finish()
            yield transcript
        finally:
            self.closed = path.exists()


def _heard(options: AsrOptions, diarize: bool) -> list[Chunk]:
    segment = Segment(0.25, 1.5, " Ask not", (Word(" Ask", 0.25, 0.5), Word(" not", 0.5, 1.5)))
    return [Chunk(0, 0 if diarize else -1, 0.0, 2.5, options.language or "en", [segment])]


@dataclass
class FakeSynthesizer:
    """Says one second in three pieces."""

    calls: list[dict[str, Any]] = field(default_factory=list)
    failure: Exception | None = None
    started: asyncio.Event = field(default_factory=asyncio.Event)
    hold: asyncio.Event | None = None
    closed: bool = False

    def sample_rate(self, model: Model) -> int:
        return RATE

    async def speak(
        self, model: Model, text: str, *, voice: str, speed: float, sampling: Sampling, request_id: str
    ) -> AsyncGenerator[bytes]:
        call = {"model": model.slug, "text": text, "voice": voice, "speed": speed}
        self.calls.append({**call, "sampling": sampling, "request_id": request_id})
        self.started.set()
        try:
            yield SPOKEN[:10_000]
            if self.failure:
                raise self.failure
            if self.hold:
                await self.hold.wait()
            yield SPOKEN[10_000:30_000]
            yield SPOKEN[30_000:]
        finally:
            self.closed = True


@dataclass
class FakeResidency:
    loaded: list[str] = field(default_factory=lambda: ["whisper-base"])
    up: bool = True

    async def ready(self) -> bool:
        return self.up

    async def ps(self) -> list[Resident]:
        return [Resident(slug, "asr", 1.5, 0) for slug in self.loaded]

    async def evict(self, slug: str) -> None:
        if slug not in self.loaded:
            raise NotFound(f"{slug} is not loaded.")
        self.loaded.remove(slug)

    async def unload_all(self) -> list[str]:
        gone, self.loaded = self.loaded, []
        return gone


@dataclass
class Facade:
    app: FastAPI
    settings: Settings
    registry: Registry
    transcriber: FakeTranscriber
    synthesizer: FakeSynthesizer
    residency: FakeResidency
    client: httpx.AsyncClient

    @property
    def uploads(self) -> list[Path]:
        return list(self.settings.uploads.iterdir())


@asynccontextmanager
async def facade(data: Path, **values: Any) -> AsyncGenerator[Facade]:
    """A facade over fakes, its data under `data`: three Kokoro voices beside a Japanese one, one staged file."""
    settings = Settings.load(data_dir=data, **values)
    settings.uploads.mkdir(parents=True)
    (settings.files / "talks").mkdir(parents=True)
    (settings.files / "talks" / "one.flac").write_bytes(b"staged")
    voices = data / "models" / "kokoro-82m" / "voices"
    voices.mkdir(parents=True)
    for name in ("af_heart.bin", "bm_fable.pt", "af_alloy.bin", "jf_alpha.bin", "zm_yunxi.bin", "notes.txt"):
        (voices / name).touch()
    (voices.parent / "kokoro-v1.0.onnx").touch()
    registry = Registry.load(PROJECT / "models.json", default_asr="whisper-base", default_tts="kokoro-82m")
    services = FakeTranscriber(), FakeSynthesizer(), FakeResidency()
    staging = Staging(settings.files, settings.max_upload_bytes)
    sources = Sources(staging, Downloads(settings, staging))
    others = Metrics(registry), staging, sources
    app = create_app(settings, registry, *services, *others, device="cpu")  # type: ignore[arg-type]
    transport = httpx.ASGITransport(app, raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url="http://talkies") as client:
        yield Facade(app, settings, registry, *services, client)
