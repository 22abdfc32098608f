"""Which models are in memory: loads on demand, evicts siblings, protects running requests, repairs dead engines.

Triton's index and statistics are the truth about what is loaded and when it was last used, so a gRPC user's calls count
as well; this module only remembers what Triton cannot know: the requests that run or wait here.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping
from dataclasses import dataclass
from typing import Any

import structlog

from talkies import environments, metrics, weights
from talkies.errors import EngineDied, ModelUnavailable, NotFound, TalkiesError, TimedOut, Unavailable
from talkies.metrics import Metrics
from talkies.registry import Modality, Model, Registry
from talkies.render import AUDIO_CHUNKS, engine_name
from talkies.settings import Settings
from talkies.slots import Slot
from talkies.triton import State, Triton
from talkies.unloading import EngineProcesses, Unloading, states

log = structlog.get_logger("talkies.residency")

_RESTART_WAIT = 20.0
"""Seconds a request waits for a tritonserver that is being restarted."""


@dataclass(frozen=True, slots=True)
class Resident:
    """A loaded model, as `GET /api/ps` shows it."""

    model: str
    modality: str
    idle_seconds: float
    active_requests: int


class Residency:
    """Loads and unloads the registry's models in one tritonserver."""

    def __init__(
        self,
        settings: Settings,
        registry: Registry,
        triton: Triton,
        metrics: Metrics,
        processes: EngineProcesses | None = None,
    ) -> None:
        """`processes` are the engines' own; those of an outside tritonserver are out of reach."""
        self._settings = settings
        self._registry = registry
        self._triton = triton
        self._metrics = metrics
        self._processes = processes
        self._unloading = Unloading(settings, triton, metrics, processes)
        self._lock = asyncio.Lock()
        """Held over every load and unload."""
        self._slots = {slug: _slot(model, settings, metrics) for slug, model in registry.items()}
        self._tasks: set[asyncio.Task[None]] = set()
        self._trimming = False

    @contextlib.asynccontextmanager
    async def use(self, model: Model) -> AsyncIterator[Callable[[], bool]]:
        """Hold `model` in memory for one request; waits in line for a place and for the load.

        What it yields tells whether the process that the request went to is still there, as far as can be seen.
        A request that raises EngineDied condemns the process: the next `use` replaces it. Raises Overloaded when the
        line is full, TimedOut when waiting takes longer than a request may, ModelUnavailable when the load fails.
        """
        slot = self._slots[model.slug]
        work = metrics.work()
        work.model = model.slug
        async with contextlib.AsyncExitStack() as stack:
            arrived, loading = time.monotonic(), work.load
            try:
                async with asyncio.timeout(self._settings.request_timeout):
                    await stack.enter_async_context(slot.place())
                    await self._enter(model, slot)
            except TimeoutError:
                raise TimedOut(f"{model.slug} had no place for this request in time.") from None
            finally:
                waited = max(0.0, time.monotonic() - arrived - (work.load - loading))
                work.queue += waited
                self._metrics.queue_seconds.labels(model.slug).observe(waited)
            entered, generation = time.monotonic(), slot.generation
            try:
                yield lambda: generation == slot.generation and self._is_alive(model, slot)
            except EngineDied:
                slot.broken |= generation == slot.generation
                raise
            finally:
                slot.leave()
                worked = time.monotonic() - entered
                work.engine += worked
                self._metrics.engine_seconds.labels(model.slug, model.modality).observe(worked)

    def _is_alive(self, model: Model, slot: Slot) -> bool:
        return not slot.broken and (self._processes is None or self._processes.alive(engine_name(model)))

    async def ready(self) -> bool:
        """Whether tritonserver answers."""
        return await self._triton.is_ready()

    async def ps(self) -> list[Resident]:
        """The loaded models, from Triton's index and statistics."""
        return await self._residents(await self._triton.index())

    async def evict(self, slug: str) -> None:
        """Unload one model once its running requests are done. Raises NotFound when it is not loaded."""
        model = self._registry.find(slug)
        async with self._lock:
            if not _is_loaded(model, await self._triton.index()):
                raise NotFound(f"{slug} is not loaded.")
            await self._evict(model, "asked")

    async def unload_all(self) -> list[str]:
        """Unload every loaded model; the slugs that were."""
        async with self._lock:
            index = await self._triton.index()
            loaded = [model for model in self._registry.values() if _is_loaded(model, index)]
            for model in loaded:
                await self._evict(model, "asked")
        return [model.slug for model in loaded]

    async def sweep(self) -> None:
        """Every `sweeper_interval`, unload what nobody used for `model_ttl` seconds; runs until cancelled."""
        while True:
            await asyncio.sleep(self._settings.sweeper_interval)
            with contextlib.suppress(TalkiesError):
                async with self._lock:
                    for resident in await self.ps():
                        if not resident.active_requests and resident.idle_seconds >= self._settings.model_ttl:
                            await self._evict(self._registry[resident.model], "idle")

    async def _enter(self, model: Model, slot: Slot) -> None:
        if await self._join(model, slot):
            return
        # A task of its own: a client that hangs up must not leave a load half-watched and the lock free.
        load = self._start(self._load_and_arrive(model, slot), f"load {model.slug}")
        try:
            await asyncio.shield(load)
        except asyncio.CancelledError:
            load.add_done_callback(lambda done: None if done.cancelled() or done.exception() else slot.leave())
            raise

    def _start(self, work: Coroutine[Any, Any, None], name: str) -> asyncio.Task[None]:
        task = asyncio.create_task(work, name=name)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    async def _join(self, model: Model, slot: Slot) -> bool:
        """Count the request in if the model is there to stay; the fast path, without the lock."""
        if slot.closing or slot.broken:
            return False
        slot.arrive()  # before the index is read, so that no eviction can start between the two
        joined = False
        try:
            index = await self._index()
            joined = _is_servable(model, index)
        finally:
            if not joined:
                slot.leave()
        if joined and not self._trimming and self._siblings(model, index)[self._settings.max_loaded_models - 1 :]:
            # A gRPC client loaded one too many. The model is here, so the request need not wait for room.
            self._trimming = True
            self._start(self._trim(model), f"trim beside {model.slug}")
        return joined

    async def _trim(self, model: Model) -> None:
        try:
            with contextlib.suppress(TalkiesError):
                async with self._lock:
                    await self._make_room(model, await self._index())
        finally:
            self._trimming = False

    async def _load_and_arrive(self, model: Model, slot: Slot) -> None:
        async with self._lock:
            await self._ensure_loaded(model, slot)
            slot.arrive()

    async def _ensure_loaded(self, model: Model, slot: Slot) -> None:
        index = await self._index()
        if slot.broken:
            log.warning("replacing dead engine", model=model.slug)
            await self._unloading.unload(model, "broken")
        elif _is_servable(model, index):
            return
        elif State.UNLOADING in states(model, index):
            # Unloaded by a gRPC client: loading beside the old process would take the memory twice.
            await self._evict(model, "asked")
        if not self._settings.triton_url:
            self._check_installed(model)
        await self._make_room(model, index)
        started = time.monotonic()
        try:
            if model.modality is Modality.ASR and index.get(AUDIO_CHUNKS) is not State.READY:
                # By its own name, so that it stays when this model goes.
                await self._triton.load(AUDIO_CHUNKS, self._settings.load_timeout)
            await self._triton.load(model.slug, self._settings.load_timeout)
        except TalkiesError:
            self._metrics.loads.labels(model.slug, "failed").inc()
            raise
        finally:
            seconds = time.monotonic() - started
            metrics.work().load += seconds
        slot.loaded()
        self._metrics.loads.labels(model.slug, "ok").inc()
        self._metrics.load_seconds.labels(model.slug).observe(seconds)
        log.info("loaded", model=model.slug, seconds=round(seconds, 2))

    def _check_installed(self, model: Model) -> None:
        if missing := weights.missing(self._settings, model):
            raise ModelUnavailable(
                f"The weights of {model.slug} are not on this machine (missing: {', '.join(missing[:3])}); "
                f"fetch them with `talkies pull {model.slug}`."
            )
        if not environments.is_built(self._settings, model.environment):
            raise ModelUnavailable(
                f"The environment of {model.slug} is not built; build it with `talkies env build {model.environment}`."
            )

    def _siblings(self, model: Model, index: Mapping[str, State]) -> list[Model]:
        return [other for other in self._registry.values() if other is not model and _is_loaded(other, index)]

    async def _make_room(self, model: Model, index: Mapping[str, State]) -> None:
        siblings = [resident for resident in await self._residents(index) if resident.model != model.slug]
        by_idle = sorted(siblings, key=lambda resident: resident.idle_seconds)
        for resident in by_idle[self._settings.max_loaded_models - 1 :]:
            await self._evict(self._registry[resident.model], "room")

    async def _evict(self, model: Model, reason: str) -> None:
        slot = self._slots[model.slug]
        slot.closing = True
        try:
            async with asyncio.timeout(self._settings.request_timeout):
                await slot.idle.wait()
            await self._unloading.unload(model, reason)
        except TimeoutError:
            raise TimedOut(f"The running requests of {model.slug} did not end in time.") from None
        finally:
            slot.closing = False

    async def _residents(self, index: Mapping[str, State]) -> list[Resident]:
        found = []
        for model in self._registry.values():
            slot, loaded = self._slots[model.slug], _is_loaded(model, index)
            slot.look(loaded)
            if loaded:
                usage = await self._triton.usage(engine_name(model))
                last = max(slot.known_since, usage.last_inference if usage else 0.0)
                idle = 0.0 if slot.active else max(0.0, time.time() - last)
                found.append(Resident(model.slug, model.modality, round(idle, 3), slot.active))
        return found

    async def _index(self) -> dict[str, State]:
        """The index; while tritonserver restarts, once it is back."""
        try:
            return await self._triton.index()
        except Unavailable:
            await self._triton.wait_ready(_RESTART_WAIT)
            return await self._triton.index()


def _slot(model: Model, settings: Settings, metrics: Metrics) -> Slot:
    concurrency = model.max_concurrency or settings.max_concurrency
    queue = settings.max_queue if model.max_queue is None else model.max_queue
    return Slot(model.slug, concurrency, queue, metrics)


def _is_loaded(model: Model, index: Mapping[str, State]) -> bool:
    return index.get(engine_name(model)) is State.READY


def _is_servable(model: Model, index: Mapping[str, State]) -> bool:
    return _is_loaded(model, index) and index.get(model.slug) is State.READY
