"""Residency over a tritonserver that is only a dictionary: what no real server can be made to do on demand."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections import Counter
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
import structlog
from hypothesis import example, given, settings
from hypothesis import strategies as st
from talkies.engines.residency import Residency
from talkies.engines.triton import State
from talkies.errors import EngineDied, EngineFailed, LoadTimedOut, ModelUnavailable, NotFound, Overloaded, TimedOut
from talkies.metrics import Metrics, follow
from talkies.registry import Registry
from talkies.settings import Settings
from talkies.setup import environments

from harness.fake_triton import FakeProcesses, FakeTriton
from harness.server import ASR, TTS

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


async def test_what_is_held_and_counted(tmp_path: Path) -> None:
    configured = Settings(data_dir=tmp_path, triton_url="elsewhere:8001")
    registry, triton = Registry.load(configured.models_file), FakeTriton()
    metrics = Metrics(registry)
    residency = Residency(configured, registry, triton, metrics)  # type: ignore[arg-type]

    async def counted() -> tuple[float | None, float | None, dict[str, str]]:
        await residency.count()
        value = metrics.registry.get_sample_value
        [info] = [f for f in metrics.registry.collect() if f.name == "talkies_resident_models"]
        [labels] = [sample.labels for sample in info.samples]
        return value("talkies_running_requests"), value("talkies_queued_requests"), labels

    assert await counted() == (0, 0, {"max": "1", "running": "", "waiting": ""})
    release, entered = asyncio.Event(), asyncio.Event()
    running = asyncio.create_task(hold(residency, registry[ASR], release, entered))
    await entered.wait()
    assert await residency.holds(registry[ASR]) and not await residency.holds(registry[TTS])
    waiting = asyncio.create_task(hold(residency, registry[TTS], release))
    await asyncio.sleep(0.02)
    assert await counted() == (1, 1, {"max": "1", "running": ASR, "waiting": TTS})
    assert not await residency.holds(registry[ASR])  # it goes as soon as it may
    triton.down = True
    assert await counted() == (1, 1, {"max": "1", "running": "", "waiting": TTS})
    triton.down = False
    release.set()
    await asyncio.gather(running, waiting)
    assert await counted() == (0, 0, {"max": "1", "running": TTS, "waiting": ""})


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
    monkeypatch.setattr("talkies.engines.unloading._UNLOAD_WAIT", 0.05)
    configured = Settings(data_dir=tmp_path, triton_url="elsewhere:8001")
    registry = Registry.load(configured.models_file)
    triton = FakeTriton()
    triton.states = {TTS: State.READY}
    processes = FakeProcesses(triton)
    processes.dying = 3

    async def stick(name: str) -> None:
        triton.states[name] = State.UNLOADING

    monkeypatch.setattr(triton, "unload", stick)
    residency = Residency(configured, registry, triton, Metrics(registry), processes)  # type: ignore[arg-type]
    await residency.evict(TTS)
    assert processes.killed == [TTS] and not processes.of(TTS)
    triton.states = {TTS: State.READY}
    await residency.evict(TTS)  # the process is gone: nothing to wait for
    assert processes.killed == [TTS]


async def test_an_unload_ends_with_its_process_whatever_triton_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    configured = Settings(data_dir=tmp_path, triton_url="elsewhere:8001")
    registry = Registry.load(configured.models_file)
    triton = FakeTriton()
    triton.states = {TTS: State.READY}
    processes = FakeProcesses(triton)
    looks = iter([1] * 5)
    monkeypatch.setattr(processes, "living", lambda *_: next(looks, 0))
    residency = Residency(configured, registry, triton, Metrics(registry), processes)  # type: ignore[arg-type]
    await residency.evict(TTS)
    assert not list(looks) and processes.killed == []


async def test_an_unload_leaves_alone_what_somebody_else_loads_meanwhile(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By gRPC: Triton starts another process while the old one still ends."""
    monkeypatch.setattr("talkies.engines.unloading._UNLOAD_WAIT", 0.2)
    configured = Settings(data_dir=tmp_path, triton_url="elsewhere:8001")
    registry = Registry.load(configured.models_file)
    triton = FakeTriton()
    processes = FakeProcesses(triton)
    await triton.load(TTS, 1)

    async def unload(name: str) -> None:
        triton.calls.append(("unload", name))
        triton.states[name] = State.UNLOADING

    monkeypatch.setattr(triton, "unload", unload)
    residency = Residency(configured, registry, triton, Metrics(registry), processes)  # type: ignore[arg-type]
    evicting = asyncio.create_task(residency.evict(TTS))
    await asyncio.sleep(0.1)
    assert not evicting.done()
    await triton.load(TTS, 1)
    await asyncio.wait_for(evicting, 1)
    assert triton.calls == [("load", TTS), ("unload", TTS), ("load", TTS)] and processes.killed == []
    assert len(processes.of(TTS)) == 1


async def test_missing_weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    configured = Settings(data_dir=tmp_path)
    registry = Registry.load(configured.models_file)
    residency = Residency(configured, registry, FakeTriton(), Metrics(registry))  # type: ignore[arg-type]
    with pytest.raises(ModelUnavailable, match="`talkies env build whisper` and `talkies pull whisper-base`"):
        async with residency.use(registry[ASR]):
            pass
    monkeypatch.setattr(environments, "is_built", lambda *_: True)
    with pytest.raises(ModelUnavailable, match="fetch them with `talkies pull whisper-base`"):
        async with residency.use(registry[ASR]):
            pass


async def test_a_stuck_unload_waits_while_it_computes_for_a_guest(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("talkies.engines.unloading._UNLOAD_WAIT", 0.05)
    configured = Settings(data_dir=tmp_path, triton_url="elsewhere:8001")
    registry = Registry.load(configured.models_file)
    triton = FakeTriton()
    processes = FakeProcesses(triton)
    triton.states = {TTS: State.READY}
    processes.guests, processes.load = True, 0.05

    async def stick(name: str) -> None:
        triton.states[name] = State.UNLOADING

    monkeypatch.setattr(triton, "unload", stick)
    residency = Residency(configured, registry, triton, Metrics(registry), processes)  # type: ignore[arg-type]
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
    configured = Settings(data_dir=tmp_path, models_file=file, triton_url="elsewhere:8001", max_loaded_models=2)
    registry = Registry.load(file)
    residency = Residency(configured, registry, _Tts(), Metrics(registry))  # type: ignore[arg-type]
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


async def test_a_model_that_is_unloading_for_ever_is_loaded_beside_that(make: Make) -> None:
    """As Triton says of one whose process died in the middle of an ensemble, or whose stream was cancelled."""
    residency, triton, registry = make()
    stuck = {ASR: State.UNLOADING, f"{ASR}.engine": State.UNLOADING}
    triton.states |= stuck
    real = triton.unload

    async def unload(name: str) -> None:
        await real(name)
        triton.states |= stuck

    triton.unload = unload  # type: ignore[method-assign]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("talkies.engines.unloading._UNLOAD_WAIT", 0.01)
        async with asyncio.timeout(5), residency.use(registry[ASR]):
            pass
    assert triton.calls == [("unload", ASR), ("load", ASR)]


async def test_audio_chunks_is_loaded_by_its_own_name_when_it_is_gone(make: Make) -> None:
    residency, triton, registry = make()
    del triton.states["audio_chunks"]
    async with residency.use(registry[ASR]):
        pass
    assert triton.calls == [("load", "audio_chunks"), ("load", ASR)]


# --- what is counted -------------------------------------------------------------------------------------------------


async def test_waits_loads_and_work_are_counted(tmp_path: Path) -> None:
    configured = Settings(data_dir=tmp_path, triton_url="elsewhere:8001", max_concurrency=1)
    registry = Registry.load(configured.models_file)
    triton, counted = FakeTriton(), Metrics(registry)
    triton.seconds = 0.1
    residency = Residency(configured, registry, triton, counted)  # type: ignore[arg-type]

    async def request() -> tuple[float, float, float]:
        with follow() as work:
            async with residency.use(registry[TTS]):
                await asyncio.sleep(0.1)
        return round(work.queue, 1), round(work.load, 1), round(work.engine, 1)

    assert list(await asyncio.gather(request(), request())) == [(0.0, 0.1, 0.1), (0.2, 0.0, 0.1)]
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


async def test_a_dead_first_step_is_replaced_and_no_engine_for_it(make: Make) -> None:
    residency, triton, registry = make()
    done = asyncio.Event()
    done.set()
    await hold(residency, registry[ASR], done)
    for _ in range(3):  # requests that ran when it died: one repair is for all of them
        with pytest.raises(EngineDied):
            async with residency.use(registry[ASR]):
                raise EngineDied("dead", model="audio_chunks")
        await hold(residency, registry[ASR], done)
    assert triton.calls == [("load", ASR), *[("unload", "audio_chunks"), ("load", "audio_chunks")] * 3]


async def test_a_late_death_of_a_replaced_first_step_condemns_nothing(make: Make) -> None:
    residency, triton, registry = make()
    done, go, entered = asyncio.Event(), asyncio.Event(), asyncio.Event()
    done.set()

    async def late() -> None:
        async with residency.use(registry[ASR]):
            entered.set()
            await go.wait()
            raise EngineDied("dead", model="audio_chunks")

    running = asyncio.create_task(late())
    await entered.wait()
    with pytest.raises(EngineDied):
        async with residency.use(registry[ASR]):
            raise EngineDied("dead", model="audio_chunks")
    assert await residency.problem() == "a process of audio_chunks has died"
    await hold(residency, registry[ASR], done)
    assert not await residency.problem()
    go.set()
    with pytest.raises(EngineDied):
        await running
    await hold(residency, registry[ASR], done)
    assert triton.calls.count(("load", "audio_chunks")) == 1


async def test_an_engine_that_fails_whatever_it_is_given_is_replaced(make: Make) -> None:
    residency, triton, registry = make()

    async def request(error: Exception | None = None) -> None:
        async with residency.use(registry[ASR]):
            if error:
                raise error

    await request()
    for error in (EngineFailed("odd"), EngineFailed("odd"), None, EngineFailed("odd"), EngineFailed("odd")):
        with contextlib.suppress(EngineFailed):
            await request(error)
    assert triton.calls == [("load", ASR)]  # it does some
    with pytest.raises(EngineFailed):
        await request(EngineFailed("odd"))
    await request()
    assert triton.calls == [("load", ASR), ("unload", ASR), ("load", ASR)]


async def test_a_first_step_that_fails_whatever_it_is_given_is_replaced(make: Make) -> None:
    residency, triton, registry = make()
    for _ in range(3):
        with pytest.raises(EngineFailed):
            async with residency.use(registry[ASR]):
                raise EngineFailed("odd", model="audio_chunks")
    async with residency.use(registry[ASR]):
        pass
    assert triton.calls == [("load", ASR), ("unload", "audio_chunks"), ("load", "audio_chunks")]


async def test_a_load_that_takes_too_long_leaves_nothing(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    residency, triton, registry = make()

    async def load(name: str, within: float) -> None:
        triton.states[name] = triton.states[f"{name}.engine"] = State.LOADING
        raise LoadTimedOut("slow")

    monkeypatch.setattr(triton, "load", load)
    with pytest.raises(ModelUnavailable, match="slow"):
        async with residency.use(registry[ASR]):
            pass
    assert triton.calls == [("unload", ASR)]


async def test_what_is_still_loading_takes_a_place(make: Make) -> None:
    """A load of somebody else, or one that was given up: beside it there is no memory."""
    residency, triton, registry = make()
    triton.states[ASR] = triton.states[f"{ASR}.engine"] = State.LOADING
    async with residency.use(registry[TTS]):
        pass
    assert triton.calls == [("unload", ASR), ("load", TTS)]


# --- taking turns ----------------------------------------------------------------------------------------------------


async def test_who_hangs_up_on_an_unload_leaves_the_model(make: Make) -> None:
    residency, triton, registry = make(max_loaded_models=2)
    release, entered, done = asyncio.Event(), asyncio.Event(), asyncio.Event()
    done.set()
    running = asyncio.create_task(hold(residency, registry[ASR], release, entered))
    await entered.wait()
    for unload in (residency.evict(ASR), residency.unload_all()):
        asked = asyncio.create_task(unload)
        await asyncio.sleep(0.01)
        async with asyncio.timeout(1):
            await hold(residency, registry[TTS], done)  # another model's load does not wait for it
        asked.cancel()
        await asyncio.wait({asked})
        async with asyncio.timeout(1):
            await hold(residency, registry[ASR], done)
    release.set()
    await running
    assert ("unload", ASR) not in triton.calls


async def test_all_that_can_be_unloaded_is_and_the_rest_is_named(make: Make) -> None:
    residency, triton, registry = make(max_loaded_models=2, request_timeout=0.1)
    release, entered, done = asyncio.Event(), asyncio.Event(), asyncio.Event()
    done.set()
    running = asyncio.create_task(hold(residency, registry[ASR], release, entered))
    await entered.wait()
    await hold(residency, registry[TTS], done)
    with pytest.raises(TimedOut, match=f"{ASR}.*Unloaded: {TTS}"):
        await residency.unload_all()
    assert triton.calls[-1] == ("unload", TTS)
    release.set()
    await running


async def test_alternating_requests_share_the_switches(make: Make) -> None:
    """Eight of each model, arriving by turns: as many loads as there are models, not as there are requests."""
    residency, triton, registry = make()
    triton.seconds = 0.01
    done = asyncio.Event()
    done.set()
    await asyncio.gather(*(hold(residency, registry[slug], done) for slug in (ASR, TTS) * 8))
    assert len([call for call in triton.calls if call[0] == "load"]) <= 3


async def test_who_stood_in_line_goes_before_the_switch(make: Make) -> None:
    residency, triton, registry = make(max_concurrency=1)
    release, entered = asyncio.Event(), asyncio.Event()
    order: list[str] = []

    async def request(slug: str, name: str) -> None:
        async with residency.use(registry[slug]):
            order.append(name)
            await asyncio.sleep(0.01)

    running = asyncio.create_task(hold(residency, registry[ASR], release, entered))
    await entered.wait()
    waiting = [asyncio.create_task(request(ASR, f"before {number}")) for number in range(3)]
    await asyncio.sleep(0.01)
    waiting.append(asyncio.create_task(request(TTS, "switch")))
    await asyncio.sleep(0.01)
    waiting.append(asyncio.create_task(request(ASR, "after")))
    await asyncio.sleep(0.01)
    release.set()
    await asyncio.gather(running, *waiting)
    assert order == ["before 0", "before 1", "before 2", "switch", "after"]
    assert triton.calls == [("load", ASR), ("unload", ASR), ("load", TTS), ("unload", TTS), ("load", ASR)]


async def test_nobody_makes_room_for_who_hung_up(make: Make) -> None:
    residency, triton, registry = make()
    release, entered, done = asyncio.Event(), asyncio.Event(), asyncio.Event()
    done.set()
    running = asyncio.create_task(hold(residency, registry[ASR], release, entered))
    await entered.wait()
    switch = asyncio.create_task(hold(residency, registry[TTS], done))
    await asyncio.sleep(0.01)
    switch.cancel()
    await asyncio.wait({switch})
    async with asyncio.timeout(1):
        await hold(residency, registry[ASR], done)
    release.set()
    await running
    await asyncio.sleep(0.01)
    assert triton.calls == [("load", ASR)]


async def test_models_that_take_turns_are_one_warning(make: Make) -> None:
    residency, _, registry = make()
    done = asyncio.Event()
    done.set()
    with structlog.testing.capture_logs() as logs:
        for _ in range(6):
            for slug in (ASR, TTS):
                await hold(residency, registry[slug], done)
    warnings = [line for line in logs if line["log_level"] == "warning"]
    assert len(warnings) == 1 and "TALKIES_MAX_LOADED_MODELS" in warnings[0]["event"]


REQUESTS = st.lists(
    st.tuples(
        st.sampled_from([ASR, TTS, "whisper-large-v3", "unload"]),
        st.integers(0, 3),  # ticks before it comes
        st.integers(0, 3),  # ticks it runs
        st.one_of(st.none(), st.integers(0, 6)),  # ticks after which it hangs up
        st.sampled_from([None, None, None, EngineDied("dead"), EngineDied("dead", model="audio_chunks")]),
    ),
    max_size=12,
)


_AT_ONCE = (ASR, 0, 0, None, None)


@example([*[_AT_ONCE] * 6, (ASR, 0, 0, None, EngineDied("dead")), _AT_ONCE, (TTS, 0, 0, None, None)], 1, 1)
@given(REQUESTS, st.integers(1, 3), st.integers(1, 3))
@settings(max_examples=150, deadline=None)
def test_any_order_of_requests(requests: list[Any], loaded: int, concurrency: int) -> None:
    """Whatever comes, hangs up and dies: everyone else is served, no model goes under its request, none is too many."""
    asyncio.run(_any_order(requests, loaded, concurrency))


async def _any_order(requests: list[Any], loaded: int, concurrency: int) -> None:
    configured = Settings(triton_url="elsewhere:8001", max_loaded_models=loaded, max_concurrency=concurrency)
    registry = Registry.load(configured.models_file)
    triton = FakeTriton()
    residency = Residency(configured, registry, triton, Metrics(registry))  # type: ignore[arg-type]
    running: Counter[str] = Counter()
    tick = 0.001
    unload = triton.unload
    condemned: set[str] = set()

    async def checked_unload(name: str) -> None:
        assert name in condemned or not running[name], f"{name} was unloaded under its requests"
        await unload(name)

    triton.unload = checked_unload  # type: ignore[method-assign]

    async def request(slug: str, before: int, runs: int, error: EngineDied | None) -> None:
        await asyncio.sleep(before * tick)
        if slug == "unload":
            await residency.unload_all()
            return
        async with residency.use(registry[slug]):
            running[slug] += 1
            try:
                in_memory = [name for name in registry if triton.states.get(name) is State.READY]
                assert len(in_memory) <= loaded
                assert slug in in_memory or slug in condemned
                await asyncio.sleep(runs * tick)
                if error:
                    if not error.model:
                        condemned.add(slug)  # with whoever else is in it
                    raise error
            finally:
                running[slug] -= 1

    tasks = []
    for slug, before, runs, hangs_up, error in requests:
        task = asyncio.create_task(request(slug, before, runs, error))
        if hangs_up is not None:
            asyncio.get_running_loop().call_later(hangs_up * tick, task.cancel)
        tasks.append(task)
    async with asyncio.timeout(20):
        results = await asyncio.gather(*tasks, return_exceptions=True)
    for result, (_, _, _, hangs_up, error) in zip(results, requests, strict=True):
        assert result is None or (error and result is error) or (hangs_up is not None), result
        assert not isinstance(result, AssertionError)
    async with asyncio.timeout(20):
        await residency.unload_all()
    assert not any(triton.states.get(name) is State.READY for name in registry)
