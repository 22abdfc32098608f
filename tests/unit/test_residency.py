"""Residency over a tritonserver that is only a dictionary: what no real server can be made to do on demand."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
from talkies.errors import EngineDied, ModelUnavailable, NotFound, Overloaded, TimedOut, Unavailable
from talkies.registry import Registry
from talkies.residency import Residency
from talkies.settings import Settings
from talkies.triton import State, Usage

ASR, TTS = "whisper-base", "kokoro-82m"


class FakeTriton:
    """Loads take `seconds`; `calls` is what was asked, in order."""

    def __init__(self) -> None:
        self.states: dict[str, State] = {}
        self.calls: list[tuple[str, str]] = []
        self.seconds = 0.0
        self.down = False

    async def index(self) -> dict[str, State]:
        if self.down:
            raise Unavailable("down")
        return dict(self.states)

    async def wait_ready(self, within: float) -> None:
        self.calls.append(("wait", ""))
        self.down = False

    async def load(self, name: str, within: float) -> None:
        self.calls.append(("load", name))
        await asyncio.sleep(self.seconds)
        self.states[name] = self.states[_engine(name)] = State.READY

    async def unload(self, name: str) -> None:
        self.calls.append(("unload", name))
        self.states[name] = self.states[_engine(name)] = State.UNAVAILABLE

    async def usage(self, name: str) -> Usage | None:
        return Usage(0.0) if self.states.get(name) is State.READY else None


class FakeProcesses:
    """One process, until it is killed."""

    def __init__(self) -> None:
        self.killed: list[str] = []

    def alive(self, name: str) -> bool:
        return not self.killed

    def kill(self, name: str) -> None:
        self.killed.append(name)


def _engine(name: str) -> str:
    return name if name == TTS else f"{name}.engine"


Make = Callable[..., tuple[Residency, FakeTriton, Registry]]


@pytest.fixture
def make(tmp_path: Path) -> Make:
    def make(**settings: Any) -> tuple[Residency, FakeTriton, Registry]:
        configured = Settings(data_dir=tmp_path, triton_url="elsewhere:8001", **settings)
        registry = Registry.load(configured.models_file)
        triton = FakeTriton()
        return Residency(configured, registry, triton), triton, registry  # type: ignore[arg-type]

    return make


async def hold(residency: Residency, model: Any, release: asyncio.Event, entered: asyncio.Event | None = None) -> None:
    async with residency.use(model):
        if entered:
            entered.set()
        await release.wait()


async def test_loads_once_for_many(make: Make) -> None:
    residency, triton, registry = make()
    triton.seconds = 0.05
    done = asyncio.Event()
    done.set()
    await asyncio.gather(*(hold(residency, registry[ASR], done) for _ in range(10)))
    assert triton.calls == [("load", ASR)]


async def test_eviction_waits_for_running_requests_and_goes_before_later_ones(make: Make) -> None:
    residency, triton, registry = make()
    release, entered = asyncio.Event(), asyncio.Event()
    first = asyncio.create_task(hold(residency, registry[ASR], release, entered))
    await entered.wait()
    done = asyncio.Event()
    done.set()
    sibling = asyncio.create_task(hold(residency, registry[TTS], done))
    await asyncio.sleep(0.02)
    late = asyncio.create_task(hold(residency, registry[ASR], done))
    await asyncio.sleep(0.02)
    assert triton.calls == [("load", ASR)]
    release.set()
    await asyncio.gather(first, sibling, late)
    assert triton.calls == [("load", ASR), ("unload", ASR), ("load", TTS), ("unload", TTS), ("load", ASR)]


async def test_two_fit(make: Make) -> None:
    residency, triton, registry = make(max_loaded_models=2)
    for slug in (ASR, TTS, ASR):
        async with residency.use(registry[slug]):
            pass
    assert triton.calls == [("load", ASR), ("load", TTS)]
    assert [resident.model for resident in await residency.ps()] == [ASR, TTS]


async def test_the_longest_idle_sibling_goes(make: Make) -> None:
    residency, triton, registry = make(max_loaded_models=2)
    for slug in (ASR, TTS, "whisper-large-v3"):
        async with residency.use(registry[slug]):
            await asyncio.sleep(0.01)
    assert triton.calls[-2:] == [("unload", ASR), ("load", "whisper-large-v3")]


async def test_dead_engine_is_replaced_once(make: Make) -> None:
    residency, triton, registry = make()

    async def fail(started: asyncio.Event, die: asyncio.Event) -> None:
        async with residency.use(registry[ASR]):
            started.set()
            await die.wait()
            raise EngineDied("gone")

    starts, dies = [asyncio.Event(), asyncio.Event()], [asyncio.Event(), asyncio.Event()]
    tasks = [asyncio.create_task(fail(start, die)) for start, die in zip(starts, dies, strict=True)]
    for start in starts:
        await start.wait()
    dies[0].set()
    with pytest.raises(EngineDied):
        await tasks[0]
    async with residency.use(registry[ASR]):
        # A late victim of the first process does not condemn the second.
        dies[1].set()
        with pytest.raises(EngineDied):
            await tasks[1]
    async with residency.use(registry[ASR]):
        pass
    assert triton.calls == [("load", ASR), ("unload", ASR), ("load", ASR)]


async def test_hanging_up_during_a_load_loses_nothing(make: Make) -> None:
    residency, triton, registry = make()
    triton.seconds = 0.05
    task = asyncio.create_task(hold(residency, registry[ASR], asyncio.Event()))
    await asyncio.sleep(0.01)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    async with residency.use(registry[ASR]):
        pass
    await residency.evict(ASR)  # would wait for ever if the cancelled request still counted
    assert triton.calls == [("load", ASR), ("unload", ASR)]


async def test_full_line(make: Make) -> None:
    residency, _, registry = make(max_concurrency=1, max_queue=1)
    release, entered = asyncio.Event(), asyncio.Event()
    running = asyncio.create_task(hold(residency, registry[ASR], release, entered))
    await entered.wait()
    waiting = asyncio.create_task(hold(residency, registry[ASR], release))
    await asyncio.sleep(0.01)
    with pytest.raises(Overloaded):
        await hold(residency, registry[ASR], release)
    release.set()
    await asyncio.gather(running, waiting)


async def test_waiting_has_a_deadline(make: Make) -> None:
    residency, _, registry = make(max_concurrency=1, request_timeout=0.05)
    release, entered = asyncio.Event(), asyncio.Event()
    running = asyncio.create_task(hold(residency, registry[ASR], release, entered))
    await entered.wait()
    with pytest.raises(TimedOut):
        await hold(residency, registry[ASR], release)
    with pytest.raises(TimedOut):
        await residency.evict(ASR)
    release.set()
    await running


async def test_a_restarting_server_is_waited_for(make: Make) -> None:
    residency, triton, registry = make()
    triton.down = True
    async with residency.use(registry[ASR]):
        pass
    assert triton.calls == [("wait", ""), ("load", ASR)]


async def test_evicting_what_is_not_loaded(make: Make) -> None:
    residency, _, _ = make()
    with pytest.raises(NotFound):
        await residency.evict(ASR)
    with pytest.raises(NotFound):
        await residency.evict("no-such-model")
    assert await residency.unload_all() == []


async def test_a_stuck_unload_ends_with_its_process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("talkies.residency._UNLOAD_WAIT", 0.05)
    settings = Settings(data_dir=tmp_path, triton_url="elsewhere:8001")
    registry = Registry.load(settings.models_file)
    triton = FakeTriton()
    triton.states = {TTS: State.READY}
    processes = FakeProcesses()

    async def stick(name: str) -> None:
        triton.states[name] = State.UNLOADING

    monkeypatch.setattr(triton, "unload", stick)
    residency = Residency(settings, registry, triton, processes)  # type: ignore[arg-type]
    await residency.evict(TTS)
    assert processes.killed == [TTS]
    triton.states = {TTS: State.READY}
    await residency.evict(TTS)  # the process is gone: nothing to wait for
    assert processes.killed == [TTS]


async def test_missing_weights(tmp_path: Path) -> None:
    settings = Settings(data_dir=tmp_path)
    registry = Registry.load(settings.models_file)
    residency = Residency(settings, registry, FakeTriton())  # type: ignore[arg-type]
    with pytest.raises(ModelUnavailable, match="talkies pull whisper-base"):
        async with residency.use(registry[ASR]):
            pass


async def test_sweep(make: Make) -> None:
    residency, triton, registry = make(model_ttl=0.05, sweeper_interval=0.01)
    release, entered = asyncio.Event(), asyncio.Event()
    running = asyncio.create_task(hold(residency, registry[ASR], release, entered))
    sweeper = asyncio.create_task(residency.sweep())
    await entered.wait()
    await asyncio.sleep(0.1)
    assert ("unload", ASR) not in triton.calls  # in use is not idle
    release.set()
    await running
    await asyncio.sleep(0.2)
    assert ("unload", ASR) in triton.calls
    sweeper.cancel()


@pytest.fixture(autouse=True)
async def _no_task_left() -> AsyncIterator[None]:
    yield
    assert [
        task for task in asyncio.all_tasks() if task is not asyncio.current_task() and "load" in task.get_name()
    ] == []
