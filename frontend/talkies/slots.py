"""The requests of one model that are in this process: those that run, and the bounded line of those that wait."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from talkies.errors import Overloaded
from talkies.metrics import Metrics


class Slot:
    """Of one model. First come, first served."""

    def __init__(self, slug: str, max_concurrency: int, max_queue: int, metrics: Metrics) -> None:
        self._slug = slug
        self._places = asyncio.Semaphore(max_concurrency)
        self._max_queue = max_queue
        self._waiting = 0
        self._metrics = metrics
        self.active = 0
        self.idle = asyncio.Event()
        """Set while `active` is 0."""
        self.idle.set()
        self.closing = False
        """An eviction waits for the active requests: new ones go behind it."""
        self.broken = False
        """The model's process is dead, though Triton calls it ready."""
        self.generation = 0
        """How often the model was loaded: a late request of a dead process does not condemn its successor."""
        self.seen = False
        """Whether the model was loaded when Triton was last asked."""
        self.known_since = time.time()
        """Unix time of the last load or the last request here; idle time counts from the later of this and Triton's."""

    @asynccontextmanager
    async def place(self) -> AsyncIterator[None]:
        """A place among the running requests; waits in line. Raises Overloaded when the line is full."""
        if self._places.locked() and self._waiting >= self._max_queue:
            self._metrics.overloads.labels(self._slug).inc()
            raise Overloaded(f"{self._slug} already has {self._waiting} requests waiting; try again in a moment.")
        self._waiting += 1
        try:
            with self._metrics.waiting.labels(self._slug).track_inprogress():
                await self._places.acquire()
        finally:
            self._waiting -= 1
        try:
            yield
        finally:
            self._places.release()

    def arrive(self) -> None:
        self.active += 1
        self.idle.clear()
        self._metrics.active.labels(self._slug).inc()

    def leave(self) -> None:
        self.active -= 1
        self._metrics.active.labels(self._slug).dec()
        self.known_since = time.time()
        if not self.active:
            self.idle.set()

    def look(self, loaded: bool) -> None:
        """Note whether Triton has the model; one that somebody else loaded is idle from now on, not since ever."""
        if loaded and not self.seen:
            self.known_since = time.time()
        self.seen = loaded

    def loaded(self) -> None:
        """Note that the model was loaded here."""
        self.broken = False
        self.generation += 1
        self.seen = True
        self.known_since = time.time()
