"""Which models are in memory: loads on demand, evicts siblings, protects running requests, repairs dead engines.

Triton's index and statistics are the truth about what is loaded and when it was last used, so a gRPC user's calls count
as well; this module only remembers what Triton cannot know: the requests that run or wait here.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Callable, Mapping

from talkies_kit.wire import AUDIO_CHUNKS

from talkies.engines.loader import Loader, Resident, is_loaded, is_servable
from talkies.engines.slots import Slot
from talkies.engines.triton import State, Triton
from talkies.engines.unloading import ServerProcesses
from talkies.errors import EngineDied, EngineFailed, EngineStarved, NotFound, TalkiesError, TimedOut
from talkies.families import Modality
from talkies.metrics import Metrics, work
from talkies.registry import Model, Registry
from talkies.settings import Settings
from talkies.setup import environments

_COUNT = 2.0
"""Seconds for tritonserver to say what is loaded, to who counts."""


class Residency:
    """The requests for the models of one tritonserver."""

    def __init__(
        self,
        settings: Settings,
        registry: Registry,
        triton: Triton,
        metrics: Metrics,
        processes: ServerProcesses | None = None,
    ) -> None:
        """`processes` are the engines' own; those of an outside tritonserver are out of reach."""
        self._settings = settings
        self._registry = registry
        self._triton = triton
        self._metrics = metrics
        self._processes = processes
        self._loader = Loader(settings, registry, triton, metrics, processes)
        self.first_step = self._loader.first_step
        self._loads: dict[str, asyncio.Task[None]] = {}
        self._trimming = False

    @contextlib.asynccontextmanager
    async def use(self, model: Model) -> AsyncIterator[Callable[[], bool]]:
        """Hold `model` in memory for one request; waits in line for a place and for the load.

        What it yields tells whether the process that the request went to is still there, as far as can be seen.
        A request that raises EngineDied condemns the process: the next `use` replaces it. Raises Overloaded when the
        line is full, TimedOut when waiting takes longer than a request may, ModelUnavailable when the load fails.
        """
        slot = self._loader.slots[model.slug]
        timing = work()
        timing.model = model.slug
        async with contextlib.AsyncExitStack() as stack:
            arrived, loading = time.monotonic(), timing.load
            try:
                async with asyncio.timeout(self._settings.request_timeout):
                    number = await stack.enter_async_context(slot.place())
                    await self._enter(model, slot, number)
            except TimeoutError:
                raise TimedOut(f"{model.slug} had no place for this request in time.") from None
            finally:
                waited = max(0.0, time.monotonic() - arrived - (timing.load - loading))
                timing.queue += waited
                self._metrics.queue_seconds.labels(model.slug).observe(waited)
            entered, generation, repairs = time.monotonic(), slot.generation, self.first_step.repairs
            try:
                yield lambda: generation == slot.generation and self._is_alive(model, slot)
                slot.failures = 0
                if model.modality is Modality.ASR:
                    self.first_step.failures = 0
            except (EngineDied, EngineFailed, EngineStarved) as error:
                if error.model == AUDIO_CHUNKS:
                    if repairs == self.first_step.repairs:
                        self.first_step.died() if isinstance(error, EngineDied) else self.first_step.failed()
                elif generation == slot.generation:
                    slot.broken |= isinstance(error, EngineDied)
                    slot.failures += 1
                raise
            finally:
                slot.leave()
                worked = time.monotonic() - entered
                timing.engine += worked
                self._metrics.engine_seconds.labels(model.slug, model.modality).observe(worked)

    def _is_alive(self, model: Model, slot: Slot) -> bool:
        return not slot.broken and (self._processes is None or len(self._processes.of(model.engine)) > 0)

    async def problem(self) -> str:
        """What keeps requests from being done just now; empty while nothing is known."""
        if not await self._triton.is_ready():
            return "tritonserver does not answer"
        return self.first_step.problem

    async def holds(self, model: Model) -> bool:
        """Whether the model is in memory, to stay."""
        slot = self._loader.slots[model.slug]
        return not (slot.broken or slot.closed) and is_servable(model, await self._triton.index())

    async def count(self) -> None:
        """Bring the gauges up to date that say what there is."""
        slots = self._loader.slots
        queued = {slug: slot.queued for slug, slot in slots.items()}
        self._metrics.queued.set(sum(queued.values()))
        self._metrics.running.set(sum(slot.active for slot in slots.values()))
        resident: list[str] = []
        with contextlib.suppress(TalkiesError, TimeoutError):  # without tritonserver there are none
            async with asyncio.timeout(_COUNT):
                index = await self._triton.index()
                resident = [model.slug for model in self._registry.values() if is_loaded(model, index)]
        self._metrics.residents.info(
            {
                "max": str(self._settings.max_loaded_models),
                "running": ",".join(resident),
                "waiting": ",".join(slug for slug, waiting in queued.items() if waiting and slug not in resident),
            }
        )

    def devices(self) -> list[str]:
        """Where the served models run, GPUs first."""
        families = {model.executor.environment for model in self._registry.values()}
        return sorted({environments.device(self._settings, family) for family in families}, reverse=True)

    async def ps(self) -> list[Resident]:
        """The loaded models, from Triton's index and statistics."""
        return await self._loader.residents(await self._triton.index())

    async def evict(self, slug: str) -> None:
        """Unload one model once its running requests are done. Raises NotFound when it is not loaded."""
        model = self._registry.find(slug)
        if not is_loaded(model, await self._triton.index()):
            raise NotFound(f"{slug} is not loaded.")
        await self._loader.evict(model, "asked")

    async def unload_all(self) -> list[str]:
        """Unload every loaded model; the slugs that were. Raises what kept one loaded, and names those that went."""
        index = await self._triton.index()
        loaded = [model for model in self._registry.values() if is_loaded(model, index)]
        results = await asyncio.gather(
            *(self._loader.evict(model, "asked") for model in loaded), return_exceptions=True
        )
        gone = [model.slug for model, result in zip(loaded, results, strict=True) if result is None]
        for result in results:
            if isinstance(result, TalkiesError) and gone:
                raise type(result)(f"{result.message} Unloaded: {', '.join(gone)}.")
            if result is not None:
                raise result
        return gone

    async def evict_idle(self) -> None:
        """Unload what nobody used for `model_ttl` seconds."""
        for resident in await self.ps():
            if not resident.active_requests and resident.idle_seconds >= self._settings.model_ttl:
                await self._loader.evict(self._registry[resident.model], "idle")

    async def _enter(self, model: Model, slot: Slot, number: int) -> None:
        if await self._join(model, slot, number):
            return
        if model.slug not in self._loads:
            self._start_load(model, slot)
        try:
            await slot.load(number)
        finally:
            if not slot.wanted and not slot.loading and model.slug in self._loads:
                self._loads[model.slug].cancel()  # nobody waits for it any more, so nothing has to make room

    def _start_load(self, model: Model, slot: Slot) -> None:
        """In a task of its own: it serves all who wait for this model, and goes on when one of them hangs up."""

        def ended(_: asyncio.Task[None]) -> None:
            del self._loads[model.slug]
            if slot.wanted:  # they came while it ended
                self._start_load(model, slot)

        task = self._loads[model.slug] = self._loader.start(self._loader.load(model, slot), f"load {model.slug}")
        task.add_done_callback(ended)

    async def _join(self, model: Model, slot: Slot, number: int) -> bool:
        """Count the request in if the model is there to stay; the fast path, without the lock."""
        if not slot.is_open(number) or slot.broken or slot.useless:
            return False
        if self.first_step.problem and model.modality is Modality.ASR:
            return False
        slot.arrive()  # before the index is read, so that no eviction can start between the two
        joined = False
        try:
            index = await self._loader.index()
            joined = is_servable(model, index)
        finally:
            if joined:
                slot.step_aside(number)
            else:
                slot.leave()
        if joined and not self._trimming and self._is_crowded(model, index):
            # A gRPC client loaded one too many. The model is here, so the request need not wait for room.
            self._trimming = True
            self._loader.start(self._trim(model), f"trim beside {model.slug}")
        return joined

    async def _trim(self, model: Model) -> None:
        try:
            with contextlib.suppress(TalkiesError):
                async with self._loader.turn:
                    for sibling in await self._loader.excess(model, await self._loader.index()):
                        await self._loader.evict(sibling, "room")
        finally:
            self._trimming = False

    def _is_crowded(self, model: Model, index: Mapping[str, State]) -> bool:
        """Whether more models are loaded beside this one than there is room for."""
        others = [other for other in self._registry.values() if other is not model and is_loaded(other, index)]
        return len(others) >= self._settings.max_loaded_models

    async def mend(self) -> None:
        """Replace `audio_chunks` if it is dead or useless."""
        await self._loader.mend()
