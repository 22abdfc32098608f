"""The application over services that answer without a tritonserver, for tests of HTTP alone."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import httpx
import numpy as np
import pytest
import structlog
from fastapi import FastAPI
from talkies import metrics
from talkies.api.app import create_app
from talkies.api.quotas import Quotas
from talkies.api.services import Services
from talkies.asr.progress import Progress, Step
from talkies.asr.transcriber import Transcriber
from talkies.asr.transcript import Transcript, merge
from talkies.engines.loader import Resident
from talkies.engines.residency import Residency
from talkies.engines.triton import ChunkAnswer
from talkies.errors import NotFound
from talkies.files.downloads import Downloads
from talkies.files.locate import Sources
from talkies.files.retention import Retention
from talkies.files.staging import Staging
from talkies.metrics import Metrics
from talkies.registry import Model, Registry
from talkies.settings import PROJECT, Settings
from talkies.tokens import Keyring
from talkies.tts.synthesizer import Synthesizer
from talkies.tts.voices import Voices
from talkies_kit.wire import AsrOptions, Sampling, Segment, Word

RATE = 24_000
SPOKEN = np.concatenate([np.zeros(2400), 9000 * np.sin(np.arange(21_600) * 0.1)]).astype("<i2").tobytes()
"""One second of speech."""


TRANSCRIPTIONS, SPEECH = "/v1/audio/transcriptions", "/v1/audio/speech"


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
    ) -> AsyncGenerator[Step | Transcript]:
        """`failure` comes after the first chunk once `late` is set; `hold` holds there too."""
        failure, hold = self.failure, self.hold
        if self.late:
            self.failure = self.hold = None
        transcript = await self.transcribe(model, path, options, diarize=diarize, request_id=request_id)
        progress = Progress(language=options.language, diarized=diarize, horizon=30)
        try:
            for chunk in _heard(options, diarize):
                yield Step(progress.add(chunk), progress.seconds)
            if self.late and failure:
                raise failure
            if self.late and hold:
                await hold.wait()
            yield Step(progress.finish(), progress.seconds)
            yield transcript
        finally:
            self.closed = path.exists()


def _heard(options: AsrOptions, diarize: bool) -> list[ChunkAnswer]:
    segment = Segment(0.25, 1.5, " Ask not", (Word(" Ask", 0.25, 0.5), Word(" not", 0.5, 1.5)))
    return [ChunkAnswer(0, 0 if diarize else -1, 0.0, 2.5, options.language or "en", [segment])]


@dataclass
class FakeSynthesizer:
    """Says one second in three pieces."""

    calls: list[dict[str, Any]] = field(default_factory=list)
    failure: Exception | None = None
    started: asyncio.Event = field(default_factory=asyncio.Event)
    hold: asyncio.Event | None = None
    closed: bool = False

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
            metrics.work().spoken += 1.0
        finally:
            self.closed = True


@dataclass
class FakeResidency:
    loaded: list[str] = field(default_factory=lambda: ["whisper-base"])
    up: bool = True

    async def problem(self) -> str:
        return "" if self.up else "tritonserver does not answer"

    async def holds(self, model: Model) -> bool:
        return model.slug in self.loaded

    async def count(self) -> None: ...

    def devices(self) -> list[str]:
        return ["cuda:1", "cpu"]

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
    draining: asyncio.Event

    @property
    def uploads(self) -> list[Path]:
        return list(self.settings.uploads.iterdir())

    async def transcribe(self, *, audio: bytes | None = b"audio", **fields: Any) -> httpx.Response:
        files = {"file": ("a.wav", audio)} if audio is not None else {"unused": ("u.bin", b"x")}
        return await self.client.post(TRANSCRIPTIONS, data={"model": "whisper-base", **fields}, files=files)

    async def speak(self, **fields: Any) -> httpx.Response:
        return await self.client.post(SPEECH, json={"model": "kokoro-82m", "input": "Hello.", **fields})

    async def hang_up(self, path: str, request: httpx.Request, when: asyncio.Event | None) -> list[dict[str, Any]]:
        """Send a request and hang up at `when`; None is in the middle of the body. Returns the log lines."""
        content = request.read()
        body = content if when else content[: len(content) // 2]
        messages = [{"type": "http.request", "body": body, "more_body": when is None}]

        async def receive() -> dict[str, Any]:
            if messages:
                return messages.pop()
            if when:
                await when.wait()
            return {"type": "http.disconnect"}

        async def send(_: Any) -> None:
            pytest.fail("nobody is there to read an answer")

        with structlog.testing.capture_logs() as lines:
            await asyncio.wait_for(self.app(_scope(path, request.headers["content-type"]), receive, send), 5)
        assert lines[-1]["seconds"] < 4  # the work ended at once, not with the test's patience
        return [dict(line) for line in lines]


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
    transcriber, synthesizer, residency = FakeTranscriber(), FakeSynthesizer(), FakeResidency()
    staging = Staging(settings.files, settings.max_upload_bytes)
    services = Services(
        settings=settings,
        registry=registry,
        metrics=Metrics(registry),
        residency=cast(Residency, residency),
        transcriber=cast(Transcriber, transcriber),
        synthesizer=cast(Synthesizer, synthesizer),
        voices=Voices(settings, registry),
        staging=staging,
        sources=Sources(staging, Downloads(settings, staging), Retention(staging, ttl=0, max_bytes=0, interval=60)),
        quotas=Quotas(data / "usage.json"),
        draining=asyncio.Event(),
        keyring=Keyring((token.get_secret_value() for token in settings.auth_token), settings.auth_file)
        if settings.auth_token or settings.auth_file
        else None,
    )
    app = create_app(services)
    transport = httpx.ASGITransport(app, raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url="http://talkies") as client:
        yield Facade(app, settings, registry, transcriber, synthesizer, residency, client, services.draining)


def assert_error(
    response: httpx.Response, status: int, *words: str, param: str | None = None, code: str | None = None
) -> None:
    """Both shapes, an id, and all `words` in the message."""
    assert response.status_code == status, response.text
    assert response.headers["x-request-id"].startswith("req_")
    body = response.json()
    assert set(body) == {"detail", "error"}
    assert set(body["error"]) == {"message", "type", "param", "code"}
    if status == 422:
        assert all(set(entry) == {"type", "loc", "msg"} for entry in body["detail"])
    else:
        assert body["detail"] == body["error"]["message"]
    kinds = {429: {"requests", "insufficient_quota"}}
    assert body["error"]["type"] in kinds.get(status, {"invalid_request_error" if status < 500 else "server_error"})
    assert body["error"]["param"] == param
    assert code is None or body["error"]["code"] == code
    for word in words:
        assert word in body["error"]["message"]


def _scope(path: str, content_type: str) -> dict[str, Any]:
    return {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "method": "POST",
        "scheme": "http",
        "path": path,
        "raw_path": path.encode(),
        "query_string": b"",
        "root_path": "",
        "headers": [(b"content-type", content_type.encode())],
        "client": ("test", 1),
        "server": ("talkies", 80),
    }
