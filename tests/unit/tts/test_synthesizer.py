"""What the synthesizer does when the engine dies: the same speech, once, without a seam, or the error."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
from talkies.errors import EngineDied, EngineFailed, TalkiesError
from talkies.registry import Model, Registry
from talkies.settings import PROJECT, Settings
from talkies.tts import synthesizer
from talkies.tts.synthesizer import Synthesizer
from talkies_kit.wire import Sampling

PIECES = [b"a" * 4, b"b" * 6, b"c" * 2]


class Engine:
    """Says PIECES; `deaths` are after how many pieces each run fails, `failure` how."""

    def __init__(self, *deaths: int, failure: TalkiesError | None = None) -> None:
        self.deaths = list(deaths)
        self.failure = failure or EngineDied("dead")
        self.runs = 0
        self.used = 0
        self.hangs = False
        """Whether the next run only goes silent when it dies, as a stream of Triton does."""

    async def synthesize(self, *_: Any, **__: Any) -> AsyncGenerator[bytes]:
        self.runs += 1
        last = self.deaths.pop(0) if self.deaths else None
        for piece in PIECES[:last]:
            yield piece
        if last is not None:
            if self.hangs:
                try:
                    await asyncio.Event().wait()
                finally:
                    self.hangs = False
            raise self.failure

    @asynccontextmanager
    async def use(self, _: Model) -> AsyncIterator[Callable[[], bool]]:
        self.used += 1
        try:
            yield lambda: not self.hangs
        finally:
            self.used -= 1


async def said(engine: Engine, slug: str, into: list[bytes]) -> list[bytes]:
    registry = Registry.load(PROJECT / "models.json", default_asr="whisper-base", default_tts="kokoro-82m")
    synthesizer = Synthesizer(Settings.load(), engine, engine)  # type: ignore[arg-type]
    async for pcm in synthesizer.speak(
        registry.find(slug), "Hello.", voice="v", speed=1.0, sampling=Sampling(), request_id="r"
    ):
        assert engine.used == 1
        into.append(pcm)
    return into


@pytest.mark.parametrize("after", [0, 1, 2, 3])
async def test_a_dead_engine_is_not_heard(after: int) -> None:
    engine = Engine(after)
    assert await said(engine, "kokoro-82m", []) == PIECES
    assert (engine.runs, engine.used) == (2, 0)


async def test_a_stream_without_a_process_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(synthesizer, "_LOOK", 0.01)
    engine = Engine(1)
    engine.hangs = True
    async with asyncio.timeout(5):
        assert await said(engine, "kokoro-82m", []) == PIECES
    assert (engine.runs, engine.used) == (2, 0)


async def test_an_engine_that_dies_twice_is_the_error() -> None:
    engine, heard = Engine(2, 1), list[bytes]()
    with pytest.raises(EngineDied):
        await said(engine, "kokoro-82m", heard)
    assert heard == PIECES[:2]
    assert (engine.runs, engine.used) == (2, 0)


async def test_an_engine_that_says_it_otherwise_each_time_is_rerun_only_from_the_start() -> None:
    assert await said(Engine(0), "qwen3-tts-0.6b", []) == PIECES
    engine, heard = Engine(1), list[bytes]()
    with pytest.raises(EngineDied):
        await said(engine, "qwen3-tts-0.6b", heard)
    assert (heard, engine.runs) == (PIECES[:1], 1)


async def test_what_fails_again_is_not_tried_again() -> None:
    engine = Engine(0, failure=EngineFailed("broken"))
    with pytest.raises(EngineFailed):
        await said(engine, "kokoro-82m", [])
    assert engine.runs == 1
