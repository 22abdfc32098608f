"""What is looked at without a request: a tritonserver that hangs, an `audio_chunks` that died, models nobody uses."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable

import structlog
from talkies_kit.wire import AUDIO_CHUNKS

from talkies.engines.residency import Residency
from talkies.engines.triton import State, Triton
from talkies.engines.unloading import ServerProcesses
from talkies.errors import TalkiesError
from talkies.settings import Settings

log = structlog.get_logger("talkies.watch")

_PAUSE = 2.0
"""Seconds between two looks at the processes."""
_START = 60.0
"""Seconds that a tritonserver may take until it answers for the first time."""


class Watch:
    """Of one tritonserver. Its tasks run until they are cancelled and survive whatever they find."""

    def __init__(
        self, settings: Settings, triton: Triton, residency: Residency, processes: ServerProcesses | None
    ) -> None:
        """Of a tritonserver that answers; `processes` are its own, and those of an outside one are out of reach."""
        self._settings = settings
        self._triton = triton
        self._residency = residency
        self._processes = processes
        self._server = processes.server if processes else 0
        self._answered = True
        self._since = time.monotonic()
        """When tritonserver answered last, or was first seen."""

    async def sweep(self) -> None:
        """Unload idle models every `sweeper_interval` seconds."""
        await _for_ever(self._residency.evict_idle, self._settings.sweeper_interval)

    async def mend(self) -> None:
        """Replace what is dead or hangs, every few seconds."""
        await _for_ever(self.look, _PAUSE)

    async def look(self) -> None:
        """One look."""
        if self._processes and self._processes.server != self._server:
            self._server, self._answered, self._since = self._processes.server, False, time.monotonic()
        if not await self._triton.is_ready():
            if self._processes:
                self._replace_if_it_hangs(self._processes)
            else:
                await self._reconnect()
            return
        self._answered, self._since = True, time.monotonic()
        if not self._processes:
            return
        first_step = self._residency.first_step
        first_step.serves(self._server)
        if await self._lacks_a_process(self._processes):
            first_step.died()
        if first_step.problem:
            await self._residency.mend()

    async def _reconnect(self) -> None:
        """An outside tritonserver may be back at another address, or have gone for good, with what it had to do."""
        late = time.monotonic() - self._since > self._settings.hang_timeout
        if await self._triton.reconnect(force=late):
            log.warning("tritonserver did not answer: connected anew")
            self._since = time.monotonic()

    async def _lacks_a_process(self, processes: ServerProcesses) -> bool:
        """Whether an `audio_chunks` that Triton calls ready has fewer processes than it was started with.

        Those of a copy that still unloads count too: what they hide is seen when they are gone, or by the next request.
        """
        if not await self._is_first_step_ready():
            return False
        lacks = len(processes.of(AUDIO_CHUNKS)) < await self._triton.instances(AUDIO_CHUNKS)
        return lacks and await self._is_first_step_ready()  # else somebody unloaded it just then

    async def _is_first_step_ready(self) -> bool:
        return (await self._triton.index()).get(AUDIO_CHUNKS) is State.READY

    def _replace_if_it_hangs(self, processes: ServerProcesses) -> None:
        limit = self._settings.hang_timeout if self._answered else max(_START, self._settings.hang_timeout)
        silent = time.monotonic() - self._since
        if self._server and silent > limit:
            log.error("tritonserver hangs", silent=round(silent))
            processes.kill_server()


async def _for_ever(look: Callable[[], Awaitable[None]], pause: float) -> None:
    while True:
        await asyncio.sleep(pause)
        try:
            await look()
        except TalkiesError:
            pass  # no tritonserver just now, or a request that came meanwhile and does not end
        except Exception:
            # What went wrong once, a process that ended while it was looked at, must not be the last look.
            log.exception("look failed", at=look.__name__)
