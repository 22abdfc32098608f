"""Which models are in memory: loads on demand, evicts siblings, protects running requests, repairs dead engines.

Triton's index and statistics are the truth about what is loaded and when it was last used, so a gRPC user's calls count
as well; this module only remembers what Triton cannot know: the requests that run or wait here.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from typing import Protocol

import structlog

from talkies import environments, weights
from talkies.errors import EngineDied, ModelUnavailable, NotFound, Overloaded, TalkiesError, TimedOut, Unavailable
from talkies.registry import Model, Registry
from talkies.render import engine_name
from talkies.settings import Settings
from talkies.triton import State, Triton

log = structlog.get_logger("talkies.residency")

_UNLOAD_WAIT = 5.0
"""Seconds to wait for an unload, which takes about 1.2 s. On Triton < 26.05 a model whose process died in the middle of
an ensemble, and now and then one whose stream was cancelled, is UNLOADING for ever; whatever process is left then is
killed, so that its memory is free. Loading the model again beside that is right."""

_POLL = 0.05
_RESTART_WAIT = 20.0
"""Seconds a request waits for a tritonserver that is being restarted."""


@dataclass(frozen=True, slots=True)
class Resident:
    """A loaded model, as `GET /api/ps` shows it."""

    model: str
    modality: str
    idle_seconds: float
    active_requests: int


class EngineProcesses(Protocol):
    """The processes behind Triton's models, by the models' names."""

    def alive(self, name: str) -> bool: ...

    def kill(self, name: str) -> None: ...


@dataclass(slots=True)
class _Slot:
    """The requests of one model that are in this process."""

    places: asyncio.Semaphore
    waiting: int = 0
    active: int = 0
    idle: asyncio.Event = field(default_factory=asyncio.Event)
    """Set while `active` is 0."""
    closing: bool = False
    """An eviction waits for the active requests: new ones go behind it."""
    broken: bool = False
    """The model's process is dead, though Triton calls it ready."""
    generation: int = 0
    """How often the model was loaded: a late request of a dead process does not condemn its successor."""
    known_since: float = field(default_factory=time.time)
    """Unix time of the last load or the last request here; idle time counts from the later of this and Triton's own."""

    def __post_init__(self) -> None:
        self.idle.set()

    def arrive(self) -> None:
        self.active += 1
        self.idle.clear()

    def leave(self) -> None:
        self.active -= 1
        self.known_since = time.time()
        if not self.active:
            self.idle.set()


class Residency:
    """Loads and unloads the registry's models in one tritonserver."""

    def __init__(
        self,
        settings: Settings,
        registry: Registry,
        triton: Triton,
        processes: EngineProcesses | None = None,
    ) -> None:
        """`processes` are the engines' own; those of an outside tritonserver are out of reach."""
        self._settings = settings
        self._registry = registry
        self._triton = triton
        self._processes = processes
        self._lock = asyncio.Lock()
        """Held over every load and unload."""
        self._slots = {slug: _Slot(asyncio.Semaphore(settings.max_concurrency)) for slug in registry}
        self._loads: set[asyncio.Task[None]] = set()

    @contextlib.asynccontextmanager
    async def use(self, model: Model) -> AsyncIterator[None]:
        """Hold `model` in memory for one request; waits in line for a place and for the load.

        A request that raises EngineDied condemns the process: the next `use` replaces it. Raises Overloaded when the
        line is full, TimedOut when waiting takes longer than a request may, ModelUnavailable when the load fails.
        """
        slot = self._slots[model.slug]
        if slot.places.locked() and slot.waiting >= self._settings.max_queue:
            raise Overloaded(f"{model.slug} already has {slot.waiting} requests waiting; try again in a moment.")
        slot.waiting += 1
        try:
            async with asyncio.timeout(self._settings.request_timeout):
                await slot.places.acquire()
        except TimeoutError:
            raise TimedOut(f"{model.slug} had no place for this request in time.") from None
        finally:
            slot.waiting -= 1
        try:
            await self._enter(model, slot)
            generation = slot.generation
            try:
                yield
            except EngineDied:
                slot.broken |= generation == slot.generation
                raise
            finally:
                slot.leave()
        finally:
            slot.places.release()

    async def ps(self) -> list[Resident]:
        """The loaded models, from Triton's index and statistics."""
        index = await self._triton.index()
        return [await self._resident(model) for model in self._registry.values() if _is_loaded(model, index)]

    async def evict(self, slug: str) -> None:
        """Unload one model once its running requests are done. Raises NotFound when it is not loaded."""
        model = self._registry.find(slug)
        async with self._lock:
            if not _is_loaded(model, await self._triton.index()):
                raise NotFound(f"{slug} is not loaded.")
            await self._evict(model)

    async def unload_all(self) -> list[str]:
        """Unload every loaded model; the slugs that were."""
        async with self._lock:
            index = await self._triton.index()
            loaded = [model for model in self._registry.values() if _is_loaded(model, index)]
            for model in loaded:
                await self._evict(model)
        return [model.slug for model in loaded]

    async def sweep(self) -> None:
        """Every `sweeper_interval`, unload what nobody used for `model_ttl` seconds; runs until cancelled."""
        while True:
            await asyncio.sleep(self._settings.sweeper_interval)
            with contextlib.suppress(TalkiesError):
                for resident in await self.ps():
                    if not resident.active_requests and resident.idle_seconds >= self._settings.model_ttl:
                        log.info("unloading idle model", model=resident.model, idle=resident.idle_seconds)
                        await self.evict(resident.model)

    async def _enter(self, model: Model, slot: _Slot) -> None:
        if await self._join(model, slot):
            return
        # A task of its own: a client that hangs up must not leave a load half-watched and the lock free.
        load = asyncio.create_task(self._load_and_arrive(model, slot), name=f"load {model.slug}")
        self._loads.add(load)
        load.add_done_callback(self._loads.discard)
        try:
            await asyncio.shield(load)
        except asyncio.CancelledError:
            load.add_done_callback(lambda done: None if done.cancelled() or done.exception() else slot.leave())
            raise

    async def _join(self, model: Model, slot: _Slot) -> bool:
        """Count the request in if the model is there to stay; the fast path, without the lock."""
        if slot.closing or slot.broken:
            return False
        slot.arrive()  # before the index is read, so that no eviction can start between the two
        joined = False
        try:
            joined = _is_servable(model, await self._index())
        finally:
            if not joined:
                slot.leave()
        return joined

    async def _load_and_arrive(self, model: Model, slot: _Slot) -> None:
        async with self._lock:
            await self._ensure_loaded(model, slot)
            slot.arrive()

    async def _ensure_loaded(self, model: Model, slot: _Slot) -> None:
        index = await self._index()
        if slot.broken:
            log.warning("replacing dead engine", model=model.slug)
            await self._unload(model)
        elif _is_servable(model, index):
            return
        if not self._settings.triton_url:
            self._check_installed(model)
        await self._make_room(model, index)
        started = time.monotonic()
        await self._triton.load(model.slug, self._settings.load_timeout)
        slot.broken = False
        slot.generation += 1
        slot.known_since = time.time()
        log.info("loaded", model=model.slug, seconds=round(time.monotonic() - started, 2))

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

    async def _make_room(self, model: Model, index: Mapping[str, State]) -> None:
        siblings = [other for other in self._registry.values() if other is not model and _is_loaded(other, index)]
        by_idle = sorted([await self._resident(other) for other in siblings], key=lambda r: r.idle_seconds)
        for resident in by_idle[self._settings.max_loaded_models - 1 :]:
            await self._evict(self._registry[resident.model])

    async def _evict(self, model: Model) -> None:
        slot = self._slots[model.slug]
        slot.closing = True
        try:
            async with asyncio.timeout(self._settings.request_timeout):
                await slot.idle.wait()
            await self._unload(model)
        except TimeoutError:
            raise TimedOut(f"The running requests of {model.slug} did not end in time.") from None
        finally:
            slot.closing = False

    async def _unload(self, model: Model) -> None:
        """Return when the model's process has ended and its memory is free."""
        engine = engine_name(model)
        await self._triton.unload(model.slug)
        deadline = time.monotonic() + _UNLOAD_WAIT
        while time.monotonic() < deadline:
            index = await self._triton.index()
            states = {index.get(model.slug), index.get(engine)}
            if State.READY in states:
                # The ensemble leaves a member that somebody loaded by its own name.
                await self._triton.unload(engine)
            elif State.UNLOADING not in states or (self._processes and not self._processes.alive(engine)):
                log.info("unloaded", model=model.slug)
                return
            await asyncio.sleep(_POLL)
        log.warning("unload is stuck", model=model.slug, after=_UNLOAD_WAIT)
        if self._processes:
            self._processes.kill(engine)

    async def _resident(self, model: Model) -> Resident:
        slot = self._slots[model.slug]
        usage = await self._triton.usage(engine_name(model))
        last = max(slot.known_since, usage.last_inference if usage else 0.0)
        idle = 0.0 if slot.active else max(0.0, time.time() - last)
        return Resident(model.slug, model.modality, round(idle, 3), slot.active)

    async def _index(self) -> dict[str, State]:
        """The index; while tritonserver restarts, once it is back."""
        try:
            return await self._triton.index()
        except Unavailable:
            await self._triton.wait_ready(_RESTART_WAIT)
            return await self._triton.index()


def _is_loaded(model: Model, index: Mapping[str, State]) -> bool:
    return index.get(engine_name(model)) is State.READY


def _is_servable(model: Model, index: Mapping[str, State]) -> bool:
    return _is_loaded(model, index) and index.get(model.slug) is State.READY
