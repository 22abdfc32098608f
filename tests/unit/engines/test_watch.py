"""What is looked at without a request, over a tritonserver that is only a dictionary."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from talkies.engines.residency import Residency
from talkies.engines.triton import State
from talkies.engines.watch import Watch
from talkies.metrics import Metrics
from talkies.registry import Registry
from talkies.settings import Settings

from harness.fake_triton import FakeProcesses, FakeTriton
from harness.server import ASR

Make = Callable[..., tuple[Watch, Residency, FakeTriton, FakeProcesses, Registry]]


@pytest.fixture
def make(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Make:
    monkeypatch.setattr("talkies.engines.watch._PAUSE", 0.01)

    def make(**settings: Any) -> tuple[Watch, Residency, FakeTriton, FakeProcesses, Registry]:
        configured = Settings(data_dir=tmp_path, triton_url="elsewhere:8001", **settings)
        registry = Registry.load(configured.models_file)
        triton = FakeTriton()
        processes = FakeProcesses(triton)
        residency = Residency(configured, registry, triton, Metrics(registry), processes)  # type: ignore[arg-type]
        watch = Watch(configured, triton, residency, processes)  # type: ignore[arg-type]
        return watch, residency, triton, processes, registry

    return make


async def test_it_replaces_what_died_while_nobody_asked(make: Make) -> None:
    watch, _, triton, processes, _ = make()
    await watch.look()
    assert triton.calls == []
    processes.stubs = 1
    await watch.look()
    processes.stubs = 2
    await watch.look()
    assert triton.calls == [("unload", "audio_chunks"), ("load", "audio_chunks")]
    processes.server, processes.stubs = 2, 0  # another tritonserver, whose processes have yet to come
    triton.states["audio_chunks"] = State.LOADING
    await watch.look()
    assert len(triton.calls) == 2


async def test_the_processes_of_an_older_copy_that_end_are_no_death(make: Make) -> None:
    """Who unloads it by gRPC: the next transcription loads it anew while the old one still unloads."""
    watch, _, triton, processes, _ = make()
    for stubs in (4, 3, 2):
        processes.stubs = stubs
        await watch.look()
    assert triton.calls == []


async def test_a_tritonserver_that_hangs_is_replaced(make: Make) -> None:
    watch, _, triton, processes, _ = make(hang_timeout=0.05)
    triton.down = True
    await watch.look()
    assert processes.killed == []
    await asyncio.sleep(0.1)
    await watch.look()
    assert processes.killed == ["tritonserver"]
    processes.server = 2
    await watch.look()
    await asyncio.sleep(0.1)
    await watch.look()
    assert processes.killed == ["tritonserver"]  # the next one has time to start


async def test_an_outside_tritonserver_that_is_silent_is_called_anew_and_then_given_up(
    make: Make, tmp_path: Path
) -> None:
    _, residency, triton, _, _ = make()
    settings = Settings(data_dir=tmp_path, triton_url="elsewhere:8001", hang_timeout=0.05)
    watch = Watch(settings, triton, residency, None)  # type: ignore[arg-type]
    await watch.look()
    assert triton.calls == []
    triton.down = True
    await watch.look()
    assert triton.calls == [("reconnect", "")]
    await asyncio.sleep(0.1)
    await watch.look()
    assert triton.calls[1:] == [("reconnect", "anyway")]


async def test_what_nobody_uses_goes(make: Make) -> None:
    watch, residency, triton, _, registry = make(model_ttl=0.05, sweeper_interval=0.01)
    sweep = asyncio.create_task(watch.sweep())
    async with residency.use(registry[ASR]):
        await asyncio.sleep(0.1)
        assert ("unload", ASR) not in triton.calls  # in use is not idle
    await asyncio.sleep(0.2)
    assert ("unload", ASR) in triton.calls
    sweep.cancel()


@pytest.mark.parametrize("task", [Watch.sweep, Watch.mend])
async def test_it_survives_what_nobody_foresaw(make: Make, monkeypatch: pytest.MonkeyPatch, task: Any) -> None:
    watch, _, triton, _, _ = make(model_ttl=1, sweeper_interval=0.01)
    looks, enough = 0, asyncio.Event()

    async def index() -> dict[str, State]:
        nonlocal looks
        looks += 1
        if looks == 3:
            enough.set()
        raise UnicodeDecodeError("utf-8", b"", 0, 1, "a process's name")

    monkeypatch.setattr(triton, "index", index)
    running = asyncio.create_task(task(watch))
    async with asyncio.timeout(20):
        await enough.wait()
    assert not running.done()
    running.cancel()
