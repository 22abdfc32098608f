"""Unloading a model until its process has ended: what runs in it is waited for, what hangs is killed."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Mapping, Set
from typing import Protocol

import structlog

from talkies.engines.triton import State, Triton
from talkies.errors import TalkiesError
from talkies.metrics import Metrics
from talkies.registry import Model
from talkies.settings import Settings

log = structlog.get_logger("talkies.residency")

_UNLOAD_WAIT = 5.0
"""Seconds to wait for an unload, which takes about 1.2 s. On Triton < 26.05 a model whose process died in the middle of
an ensemble, and now and then one whose stream was cancelled, is UNLOADING for ever; whatever process is left then is
killed, so that its memory is free. Loading the model again beside that is right."""

_END_WAIT = 2.0
"""Seconds that an `audio_chunks` with a dead process may take to unload; it often never does."""

_DEATH_WAIT = 30.0
"""Seconds for a killed process to be gone: the kernel frees its memory first, on a busy machine not at once."""

_BUSY = 0.05
"""Share of a core above which an engine computes; an idle one only blinks."""

_POLL = 0.05


class Processes(Protocol):
    """Those that a Triton model had at some time."""

    def __len__(self) -> int:
        """How many of them live."""
        ...

    def kill(self) -> None: ...

    def cpu_seconds(self) -> float: ...


class ServerProcesses(Protocol):
    """A tritonserver of ours, and the processes behind its models."""

    def of(self, name: str) -> Processes:
        """Those of a Triton model that live now."""
        ...

    def kill_server(self) -> None:
        """Kill tritonserver itself, which is then started anew."""
        ...

    @property
    def server(self) -> int:
        """The pid of tritonserver, 0 without one."""
        ...

    def has_guests(self) -> bool:
        """Whether others than this process are connected to tritonserver."""
        ...


class Unloading:
    """Unloads the models of one tritonserver; the facade's own requests must have ended."""

    def __init__(self, settings: Settings, triton: Triton, metrics: Metrics, processes: ServerProcesses | None) -> None:
        self._settings = settings
        self._triton = triton
        self._metrics = metrics
        self._processes = processes

    async def unload(self, model: Model, reason: str) -> None:
        """Return when the model's process has ended and its memory is free, or an outside tritonserver says so."""
        # Only these: somebody else may load the model again meanwhile.
        own = self._of(model.engine)
        await self._triton.unload(model.slug)
        deadline = time.monotonic() + self._settings.request_timeout
        used = own.cpu_seconds() if own else 0.0
        while not await self._gone(model, own):
            last, used = used, own.cpu_seconds() if own else 0.0
            # Triton lets running requests finish. Ours have, so what the engine still computes is a gRPC client's
            # if there is one, and otherwise for somebody who hung up.
            computes = used - last > _UNLOAD_WAIT * _BUSY
            if self._processes and self._processes.has_guests() and computes and time.monotonic() < deadline:
                continue
            log.warning("unload is stuck", model=model.slug, after=_UNLOAD_WAIT)
            await _kill(own, model.engine)
            break
        self._metrics.unloads.labels(model.slug, reason).inc()
        log.info("unloaded", model=model.slug, reason=reason)

    async def end(self, name: str) -> None:
        """Unload a Triton model by its own name; return when its processes have ended, killed after a while if need be.

        Whatever runs in them is not waited for: it is run once more.
        """
        own = self._of(name)
        await self._triton.unload(name)
        deadline = time.monotonic() + _END_WAIT
        while time.monotonic() < deadline:
            if self._ended(own, {(await self._triton.index()).get(name)}):
                return
            await asyncio.sleep(_POLL)
        await _kill(own, name)

    async def abandon(self, model: Model) -> None:
        """Let go of a load that took too long, so that no process is left that nobody counts.

        Triton unloads what it is still loading once that has ended; the end of the process ends it at once.
        """
        await _kill(self._of(model.engine), model.engine)
        with contextlib.suppress(TalkiesError):
            await self._triton.unload(model.slug)

    def _of(self, name: str) -> Processes | None:
        """None with a tritonserver that is not ours."""
        return self._processes.of(name) if self._processes else None

    async def _gone(self, model: Model, own: Processes | None) -> bool:
        """Whether the model is unloaded within `_UNLOAD_WAIT`."""
        engine = model.engine
        deadline = time.monotonic() + _UNLOAD_WAIT
        while time.monotonic() < deadline:
            now = states(model, await self._triton.index())
            is_anothers = not own and bool(self._of(engine))
            if State.READY in now and not is_anothers:
                # The ensemble leaves a member that somebody loaded by its own name.
                await self._triton.unload(engine)
            elif self._ended(own, now):
                return True
            await asyncio.sleep(_POLL)
        return False

    def _ended(self, own: Processes | None, now: Set[State | None]) -> bool:
        """Whether the Triton model, in one of these states, has none of the processes any more.

        Triton's states say less: UNLOADING may stay for ever, UNAVAILABLE may come before the end.
        """
        if own is not None:
            return not own
        return not now & {State.READY, State.UNLOADING}


async def _kill(own: Processes | None, name: str) -> None:
    """Kill the Triton model's processes, and return when they are gone."""
    if own is None:
        return
    own.kill()
    deadline = time.monotonic() + _DEATH_WAIT
    while own:
        if time.monotonic() > deadline:
            log.error("a killed process does not end", model=name, after=_DEATH_WAIT)
            return
        await asyncio.sleep(_POLL)


def states(model: Model, index: Mapping[str, State]) -> set[State | None]:
    """Of the ensemble and of the engine."""
    return {index.get(model.slug), index.get(model.engine)}
