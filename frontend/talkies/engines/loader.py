"""Loading and unloading: one model after the other, with room made before, and dead engines replaced."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Coroutine, Mapping, Set
from dataclasses import dataclass
from typing import Any

import structlog
from talkies_kit.wire import AUDIO_CHUNKS

from talkies.engines.first_step import FirstStep
from talkies.engines.slots import Slot
from talkies.engines.triton import State, Triton
from talkies.engines.unloading import ServerProcesses, Unloading, states
from talkies.errors import LoadTimedOut, ModelUnavailable, TalkiesError, TimedOut, Unavailable
from talkies.families import Modality
from talkies.metrics import Metrics, work
from talkies.registry import Model, Registry
from talkies.settings import Settings
from talkies.setup import environments, weights

log = structlog.get_logger("talkies.residency")

_RESTART_WAIT = 20.0
"""Seconds a request waits for a tritonserver that is being restarted."""
_TURNS, _TURNS_WITHIN = 4, 600.0
"""So many unloads for room within so many seconds are models that take turns in memory."""


@dataclass(frozen=True, slots=True)
class Resident:
    """A loaded model, as `GET /api/ps` shows it."""

    model: str
    modality: str
    idle_seconds: float
    active_requests: int


class Loader:
    """Of one tritonserver."""

    def __init__(
        self,
        settings: Settings,
        registry: Registry,
        triton: Triton,
        metrics: Metrics,
        processes: ServerProcesses | None,
    ) -> None:
        """`processes` are the engines' own; those of an outside tritonserver are out of reach."""
        self._settings = settings
        self._registry = registry
        self._triton = triton
        self._metrics = metrics
        self._unloading = Unloading(settings, triton, metrics, processes)
        self._lock = asyncio.Lock()
        """Held over every load and unload, never while requests are waited for."""
        self.turn = asyncio.Lock()
        """Held by the load that waits for room; the next ones wait for it."""
        self.first_step = FirstStep()
        self.slots = {slug: _slot(model, settings, metrics) for slug, model in registry.items()}
        self._tasks: set[asyncio.Task[None]] = set()
        self._warned = False
        self._turns: deque[float] = deque(maxlen=_TURNS)
        """When the last models were unloaded for room."""

    def start(self, coroutine: Coroutine[Any, Any, None], name: str) -> asyncio.Task[None]:
        task = asyncio.create_task(coroutine, name=name)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    async def load(self, model: Model, slot: Slot) -> None:
        """Load the model for all who wait for it, once there is room."""
        # What Triton calls UNLOADING for ever, though its process has ended, is in nobody's way a second time.
        gone: set[str] = set()
        try:
            # Who waits for room has been promised the next that becomes free.
            if (self.turn.locked() and not slot.broken) or await self._load_or_find_in_the_way(model, slot, gone):
                async with self.turn:
                    while leaving := await self._load_or_find_in_the_way(model, slot, gone):
                        for other in leaving:
                            await self.evict(other, "asked" if other is model else "room")
                            gone.add(other.slug)
        except TalkiesError as error:
            slot.admit(error)
        except Exception:
            log.exception("load failed", model=model.slug)
            slot.admit(ModelUnavailable(f"{model.slug} cannot be loaded; the server's log has the reason."))

    async def _load_or_find_in_the_way(self, model: Model, slot: Slot, gone: Set[str]) -> list[Model]:
        """Load the model and let those run who wait for it, or tell which have to be unloaded first; those that are
        `gone` have been."""
        while True:
            await slot.opened()
            async with self._lock:
                if slot.closed:
                    continue
                if not slot.wanted:
                    return []  # they hung up
                if model.modality is Modality.ASR:
                    await self._mend_first_step()
                index = await self.index()
                slot.broken &= _occupies(model, index)
                if not slot.broken:
                    now = states(model, index)
                    in_the_way = State.UNLOADING in now or (slot.useless and State.READY in now)
                    if in_the_way and model.slug not in gone:
                        # It fails everything, or a gRPC client unloaded it: beside it would take the memory twice.
                        return [model]
                    if is_servable(model, index):
                        slot.admit()
                        return []
                    if not self._settings.triton_url:
                        await self._check_installed(model)
                    if excess := await self.excess(model, index):
                        return excess
                slot.loading = True
                try:
                    await self._load_now(model, slot, index)
                finally:
                    slot.loading = False
                slot.admit()
                return []

    async def _load_now(self, model: Model, slot: Slot, index: Mapping[str, State]) -> None:
        if slot.broken:
            log.warning("replacing dead engine", model=model.slug)
            await self._unloading.unload(model, "broken")
        started = time.monotonic()
        try:
            if model.modality is Modality.ASR and index.get(AUDIO_CHUNKS) is not State.READY:
                # By its own name, so that it stays when this model goes.
                await self._triton.load(AUDIO_CHUNKS, self._settings.load_timeout)
            await self._triton.load(model.slug, self._settings.load_timeout)
        except TalkiesError as error:
            self._metrics.loads.labels(model.slug, "failed").inc()
            if isinstance(error, LoadTimedOut):
                await self._unloading.abandon(model)
            raise
        finally:
            seconds = time.monotonic() - started
            work().load += seconds
        slot.loaded()
        self._metrics.loads.labels(model.slug, "ok").inc()
        self._metrics.load_seconds.labels(model.slug).observe(seconds)
        log.info("loaded", model=model.slug, seconds=round(seconds, 2))

    async def mend(self) -> None:
        """Replace `audio_chunks` if it is dead or useless."""
        async with self._lock:
            await self._mend_first_step()

    async def _mend_first_step(self) -> None:
        """Every transcription goes through it; no engine is touched for it."""
        if not self.first_step.problem:
            return
        log.warning("replacing dead engine", model=AUDIO_CHUNKS, reason=self.first_step.problem)
        await self._unloading.end(AUDIO_CHUNKS)
        await self._triton.load(AUDIO_CHUNKS, self._settings.load_timeout)
        self.first_step.replaced()

    async def _check_installed(self, model: Model) -> None:
        environment = model.executor.environment
        built = environments.is_built(self._settings, environment)
        if missing := weights.missing(self._settings, model):
            pull = f"`talkies pull {model.slug}`"
            way_out = f"fetch them with {pull}" if built else f"run `talkies env build {environment}` and {pull}"
            raise ModelUnavailable(
                f"The weights of {model.slug} are not on this machine (missing: {', '.join(missing[:3])}); {way_out}."
            )
        if damaged := await asyncio.to_thread(weights.damaged, self._settings, model):
            raise ModelUnavailable(
                f"The weights of {model.slug} are damaged ({', '.join(damaged[:3])}); fetch them anew with "
                f"`talkies pull --verify {model.slug}`."
            )
        if not built:
            raise ModelUnavailable(
                f"The environment of {model.slug} is not built; build it with `talkies env build {environment}`."
            )

    async def excess(self, model: Model, index: Mapping[str, State]) -> list[Model]:
        """The siblings that are too many beside this model, the longest unused; what is still loading goes last."""
        others = [other for other in self._registry.values() if other is not model]
        loading = [other for other in others if State.LOADING in states(other, index)]
        by_idle = sorted(await self.residents(index), key=lambda resident: resident.idle_seconds)
        loaded = [self._registry[resident.model] for resident in by_idle if resident.model != model.slug]
        return (loading + loaded)[self._settings.max_loaded_models - 1 :]

    async def evict(self, model: Model, reason: str) -> None:
        """Unload a model once its requests are done; a caller that is cancelled meanwhile leaves it as it was."""
        slot = self.slots[model.slug]
        if reason == "idle" and slot.busy:
            return
        closing = slot.close()
        try:
            async with asyncio.timeout(self._settings.request_timeout):
                await slot.drained(closing)
        except TimeoutError:
            slot.reopen(closing)
            raise TimedOut(f"The running requests of {model.slug} did not end in time.") from None
        except BaseException:
            slot.reopen(closing)
            raise
        # From here on it is done, whatever becomes of the caller.
        await asyncio.shield(self.start(self._unload(model, slot, closing, reason), f"unload {model.slug}"))

    async def _unload(self, model: Model, slot: Slot, closing: int, reason: str) -> None:
        try:
            while not await self._unload_unless_in_use(model, slot, reason):
                await slot.drained(closing)
        finally:
            slot.reopen(closing)
        if reason == "room":
            self._turns.append(time.monotonic())
            if len(self._turns) == _TURNS and self._turns[-1] - self._turns[0] < _TURNS_WITHIN and not self._warned:
                self._warned = True
                log.warning(
                    "models take turns in memory: a larger TALKIES_MAX_LOADED_MODELS keeps them side by side",
                    unloads=_TURNS,
                    seconds=round(self._turns[-1] - self._turns[0]),
                )

    async def _unload_unless_in_use(self, model: Model, slot: Slot, reason: str) -> bool:
        """Whether it could be: a load that had the lock first may have let requests in."""
        async with self._lock:
            if not slot.active and _occupies(model, await self._triton.index()):
                await self._unloading.unload(model, reason)
            return not slot.active

    async def residents(self, index: Mapping[str, State]) -> list[Resident]:
        found = []
        for model in self._registry.values():
            slot, loaded = self.slots[model.slug], is_loaded(model, index)
            slot.look(loaded)
            if loaded:
                last = max(slot.known_since, await self._triton.last_used(model.engine))
                idle = 0.0 if slot.active else max(0.0, time.time() - last)
                found.append(Resident(model.slug, model.modality, round(idle, 3), slot.active))
        return found

    async def index(self) -> dict[str, State]:
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


def is_installed(settings: Settings, model: Model) -> bool:
    """Whether what loading needs is on this machine; an outside tritonserver's is not looked at."""
    if settings.triton_url:
        return True
    return not weights.missing(settings, model) and environments.is_built(settings, model.executor.environment)


def is_loaded(model: Model, index: Mapping[str, State]) -> bool:
    return index.get(model.engine) is State.READY


def _occupies(model: Model, index: Mapping[str, State]) -> bool:
    """Whether it takes memory, in use or not."""
    return bool(states(model, index) & {State.READY, State.LOADING, State.UNLOADING})


def is_servable(model: Model, index: Mapping[str, State]) -> bool:
    return is_loaded(model, index) and index.get(model.slug) is State.READY
