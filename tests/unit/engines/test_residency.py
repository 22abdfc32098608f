"""Residency over a tritonserver that is only a dictionary: what no real server can be made to do on demand."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
from talkies.errors import EngineDied, ModelUnavailable, NotFound, Overloaded, TimedOut, Unavailable
from talkies.metrics import Metrics, follow
from talkies.registry import Registry
from talkies.residency import Residency
from talkies.settings import Settings
from talkies.triton import State, Usage

ASR, TTS = "whisper-base", "kokoro-82m"


class FakeTriton:
    """Loads take `seconds`; `calls` is what was asked, in order."""

    def __init__(self) -> None:
        self.states: dict[str, State] = {"audio_chunks": State.READY}
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
        self.states[name] = State.READY
        if name != "audio_chunks":
            self.states[_engine(name)] = State.READY

    async def unload(self, name: str) -> None:
        self.calls.append(("unload", name))
        self.states[name] = self.states[_engine(name)] = State.UNAVAILABLE

    async def usage(self, name: str) -> Usage | None:
        return Usage(0.0) if self.states.get(name) is State.READY else None


class FakeProcesses:
    """One process, until it is killed."""

    def __init__(self) -> None:
        self.killed: list[str] = []
        self.used = 0.0
        self.load = 0.0
        self.guests = False

    def alive(self, name: str) -> bool:
        return not self.killed

    def cpu_seconds(self, name: str) -> float:
        self.used += self.load
        return self.used

    def has_guests(self) -> bool:
        return self.guests

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
        return Residency(configured, registry, triton, Metrics(registry)), triton, registry  # type: ignore[arg-type]

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
    monkeypatch.setattr("talkies.unloading._UNLOAD_WAIT", 0.05)
    settings = Settings(data_dir=tmp_path, triton_url="elsewhere:8001")
    registry = Registry.load(settings.models_file)
    triton = FakeTriton()
    triton.states = {TTS: State.READY}
    processes = FakeProcesses()

    async def stick(name: str) -> None:
        triton.states[name] = State.UNLOADING

    monkeypatch.setattr(triton, "unload", stick)
    residency = Residency(settings, registry, triton, Metrics(registry), processes)  # type: ignore[arg-type]
    await residency.evict(TTS)
    assert processes.killed == [TTS]
    triton.states = {TTS: State.READY}
    await residency.evict(TTS)  # the process is gone: nothing to wait for
    assert processes.killed == [TTS]


async def test_missing_weights(tmp_path: Path) -> None:
    settings = Settings(data_dir=tmp_path)
    registry = Registry.load(settings.models_file)
    residency = Residency(settings, registry, FakeTriton(), Metrics(registry))  # type: ignore[arg-type]
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


async def test_a_stuck_unload_waits_while_it_computes_for_a_guest(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("talkies.unloading._UNLOAD_WAIT", 0.05)
    settings = Settings(data_dir=tmp_path, triton_url="elsewhere:8001")
    registry = Registry.load(settings.models_file)
    triton, processes = FakeTriton(), FakeProcesses()
    triton.states = {TTS: State.READY}
    processes.guests, processes.load = True, 0.05

    async def stick(name: str) -> None:
        triton.states[name] = State.UNLOADING

    monkeypatch.setattr(triton, "unload", stick)
    residency = Residency(settings, registry, triton, Metrics(registry), processes)  # type: ignore[arg-type]
    evicting = asyncio.create_task(residency.evict(TTS))
    await asyncio.sleep(0.3)
    assert not evicting.done() and processes.killed == []
    processes.load = 0.0  # the guest is served, or the engine hangs
    await asyncio.wait_for(evicting, 1)
    assert processes.killed == [TTS]


async def test_the_line_is_first_come_first_served(make: Make) -> None:
    residency, _, registry = make(max_concurrency=1)
    release, entered = asyncio.Event(), asyncio.Event()
    running = asyncio.create_task(hold(residency, registry[ASR], release, entered))
    await entered.wait()
    order: list[int] = []

    async def wait(number: int) -> None:
        async with residency.use(registry[ASR]):
            order.append(number)
            await asyncio.sleep(0)

    waiting = []
    for number in range(6):
        waiting.append(asyncio.create_task(wait(number)))
        await asyncio.sleep(0)
    waiting[0].cancel()
    waiting[3].cancel()
    release.set()
    await running
    await asyncio.gather(*waiting, return_exceptions=True)
    assert order == [1, 2, 4, 5]
    async with asyncio.timeout(1), residency.use(registry[ASR]):
        pass  # no place was lost with those who left the line


async def test_a_place_is_not_lost_with_a_waiter_that_leaves_as_its_turn_comes(make: Make) -> None:
    residency, _, registry = make(max_concurrency=1)
    release, entered, done = asyncio.Event(), asyncio.Event(), asyncio.Event()
    done.set()
    running = asyncio.create_task(hold(residency, registry[ASR], release, entered))
    await entered.wait()
    waiting = [asyncio.create_task(hold(residency, registry[ASR], done)) for _ in range(2)]
    await asyncio.sleep(0.01)
    running.add_done_callback(lambda _: waiting[0].cancel())
    release.set()
    async with asyncio.timeout(1):
        await asyncio.gather(running, *waiting, return_exceptions=True)
        async with residency.use(registry[ASR]):
            pass


async def test_a_model_may_have_its_own_bounds(tmp_path: Path) -> None:
    file = tmp_path / "models.json"
    kokoro = {"executor": "kokoro", "repo": "a/b"}
    file.write_text(json.dumps({"models": {"one": {**kokoro, "max_concurrency": 1, "max_queue": 0}, "many": kokoro}}))
    settings = Settings(data_dir=tmp_path, models_file=file, triton_url="elsewhere:8001", max_loaded_models=2)
    registry = Registry.load(file)
    residency = Residency(settings, registry, _Tts(), Metrics(registry))  # type: ignore[arg-type]
    release, entered = asyncio.Event(), asyncio.Event()
    tasks = [asyncio.create_task(hold(residency, registry["one"], release, entered))]
    await entered.wait()
    with pytest.raises(Overloaded):
        await hold(residency, registry["one"], release)
    tasks += [asyncio.create_task(hold(residency, registry["many"], release)) for _ in range(3)]
    await asyncio.sleep(0.05)
    assert {resident.model: resident.active_requests for resident in await residency.ps()} == {"one": 1, "many": 3}
    release.set()
    await asyncio.gather(*tasks)


class _Tts(FakeTriton):
    async def load(self, name: str, within: float) -> None:
        self.states[name] = State.READY


# --- gRPC clients that load and unload behind our back ---------------------------------------------------------------


async def test_one_model_too_many_goes_without_holding_up_the_request(make: Make) -> None:
    residency, triton, registry = make()
    async with residency.use(registry[ASR]):
        pass
    await triton.load(TTS, 1)  # as a gRPC client does
    triton.calls.clear()
    async with residency.use(registry[ASR]):
        await asyncio.sleep(0.05)
    assert triton.calls == [("unload", TTS)]


async def test_what_others_load_is_idle_from_when_it_was_seen(make: Make) -> None:
    residency, triton, _ = make()
    await asyncio.sleep(0.2)
    await triton.load(TTS, 1)
    assert (await residency.ps())[0].idle_seconds < 0.1
    await asyncio.sleep(0.1)
    assert (await residency.ps())[0].idle_seconds >= 0.1


async def test_a_model_that_is_being_unloaded_is_waited_for(make: Make) -> None:
    residency, triton, registry = make()
    triton.states = {TTS: State.UNLOADING}

    async def unload(name: str) -> None:
        triton.calls.append(("unload", name))

    triton.unload = unload  # type: ignore[method-assign]

    async def end() -> None:
        await asyncio.sleep(0.1)
        assert ("load", TTS) not in triton.calls
        triton.states = {}

    ending = asyncio.create_task(end())
    async with residency.use(registry[TTS]):
        assert ("load", TTS) in triton.calls
    await ending


async def test_audio_chunks_is_loaded_by_its_own_name_when_it_is_gone(make: Make) -> None:
    residency, triton, registry = make()
    del triton.states["audio_chunks"]
    async with residency.use(registry[ASR]):
        pass
    assert triton.calls == [("load", "audio_chunks"), ("load", ASR)]


# --- what is counted -------------------------------------------------------------------------------------------------


async def test_waits_loads_and_work_are_counted(tmp_path: Path) -> None:
    settings = Settings(data_dir=tmp_path, triton_url="elsewhere:8001", max_concurrency=1)
    registry = Registry.load(settings.models_file)
    triton, counted = FakeTriton(), Metrics(registry)
    triton.seconds = 0.1
    residency = Residency(settings, registry, triton, counted)  # type: ignore[arg-type]

    async def request() -> tuple[float, float, float]:
        with follow() as work:
            async with residency.use(registry[TTS]):
                await asyncio.sleep(0.1)
        return round(work.queue, 1), round(work.load, 1), round(work.engine, 1)

    assert await asyncio.gather(request(), request()) == [(0.0, 0.1, 0.1), (0.2, 0.0, 0.1)]
    await residency.evict(TTS)
    value = counted.registry.get_sample_value
    model = {"model": TTS}
    assert value("talkies_queue_seconds_count", model) == 2
    assert value("talkies_engine_seconds_count", {**model, "modality": "tts"}) == 2
    assert value("talkies_model_load_seconds_count", model) == 1
    assert value("talkies_model_loads_total", {**model, "result": "ok"}) == 1
    assert value("talkies_model_unloads_total", {**model, "reason": "asked"}) == 1
    assert value("talkies_active_requests", model) == value("talkies_waiting_requests", model) == 0


@pytest.fixture(autouse=True)
async def _no_task_left() -> AsyncIterator[None]:
    yield
    assert [
        task for task in asyncio.all_tasks() if task is not asyncio.current_task() and "load" in task.get_name()
    ] == []
