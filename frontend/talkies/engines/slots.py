"""The requests of one model that are in this process: those that run, and the bounded line of those that wait."""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from talkies.errors import Overloaded, TalkiesError
from talkies.metrics import Metrics

_FAILURES = 3
"""Requests in a row that an engine may fail in a way that is not theirs; one that cannot do any is replaced."""


class Slot:
    """Of one model. First come, first served.

    A request stands in line, then either joins the running ones or waits for a load. Who closes the slot, to unload the
    model, waits for those that run and those that stood in line before; later ones go behind the unload.
    """

    def __init__(self, slug: str, max_concurrency: int, max_queue: int, metrics: Metrics) -> None:
        self._slug = slug
        self._places = asyncio.Semaphore(max_concurrency)
        self._max_queue = max_queue
        self._waiting = 0
        self._metrics = metrics
        self._numbers = itertools.count()
        self._line: set[int] = set()
        """The numbers of the requests that neither run nor wait for a load."""
        self._closings: dict[int, bool] = {}
        """The numbers at which the slot was closed, and whether those before have gone."""
        self._moved = asyncio.Event()
        self._load_waiters: dict[int, asyncio.Future[None]] = {}
        self.loading = False
        """The model is being loaded, which is not interrupted."""
        self.active = 0
        self.broken = False
        """The model's process is dead, though Triton calls it ready."""
        self.failures = 0
        """Requests that the engine failed since the last that it did."""
        self.generation = 0
        """How often the model was loaded: a late request of a dead process does not condemn its successor."""
        self.seen = False
        """Whether the model was loaded when Triton was last asked."""
        self.known_since = time.time()
        """Unix time of the last load or the last request here; idle time counts from the later of this and Triton's."""

    @asynccontextmanager
    async def place(self) -> AsyncIterator[int]:
        """A place among the running requests, and the request's number; waits in line.

        Raises Overloaded when the line is full.
        """
        if self._places.locked() and self._waiting >= self._max_queue:
            self._metrics.overloads.labels(self._slug).inc()
            raise Overloaded(f"{self._slug} already has {self._waiting} requests waiting; try again in a moment.")
        number = next(self._numbers)
        self._line.add(number)
        self._waiting += 1
        try:
            try:
                with self._metrics.waiting.labels(self._slug).track_inprogress():
                    await self._places.acquire()
            finally:
                self._waiting -= 1
            try:
                yield number
            finally:
                self._places.release()
        finally:
            self.step_aside(number)

    def step_aside(self, number: int) -> None:
        """Leave the line: the request runs, waits for a load, or is over."""
        self._line.discard(number)
        self._move()

    def arrive(self) -> None:
        self.active += 1
        self._metrics.active.labels(self._slug).inc()

    def leave(self) -> None:
        self.active -= 1
        self._metrics.active.labels(self._slug).dec()
        self.known_since = time.time()
        self._move()

    @property
    def busy(self) -> bool:
        """Whether requests run, stand in line or wait for the load."""
        return bool(self.active or self._line) or self.wanted

    @property
    def queued(self) -> int:
        """Requests that wait for a place or for the load."""
        return len(self._line) + len(self._load_waiters)

    def is_open(self, number: int) -> bool:
        """Whether a request of this number may join; those that came before the slot was closed may."""
        return all(number < closing and not drained for closing, drained in self._closings.items())

    @property
    def closed(self) -> bool:
        return bool(self._closings)

    def close(self) -> int:
        """Let later requests wait for `reopen` of the number that this returns."""
        number = next(self._numbers)
        self._closings[number] = False
        return number

    def reopen(self, number: int) -> None:
        self._closings.pop(number, None)
        self._move()

    async def opened(self) -> None:
        """Return when nobody keeps the slot closed."""
        while self._closings:
            await self._moved.wait()

    async def drained(self, closing: int) -> None:
        """Return when no request runs and none in line came before `closing` and can still run; then none may join."""
        while self.active or (
            any(number < closing for number in self._line)
            # One of them found the model gone, and may hold the place that the next one waits for.
            and not any(number < closing for number in self._load_waiters)
        ):
            await self._moved.wait()
        self._closings[closing] = True

    def _move(self) -> None:
        """Wake all who wait for a change."""
        self._moved.set()
        self._moved = asyncio.Event()

    @property
    def wanted(self) -> bool:
        """Whether requests wait for the model to be loaded."""
        return any(not waiter.done() for waiter in self._load_waiters.values())

    async def load(self, number: int) -> None:
        """Wait until the model is loaded; the request runs then. Raises what the load raised."""
        waiter = self._load_waiters[number] = asyncio.get_running_loop().create_future()
        self.step_aside(number)
        try:
            await waiter
        except asyncio.CancelledError:
            if waiter.done() and not waiter.cancelled() and not waiter.exception():
                self.leave()
            raise
        finally:
            self._load_waiters.pop(number, None)
            self._move()

    def admit(self, failure: TalkiesError | None = None) -> None:
        """Let those who wait for the load run, or tell them why it failed."""
        waiters, self._load_waiters = self._load_waiters, {}
        for waiter in waiters.values():
            if waiter.done():
                continue
            if failure:
                waiter.set_exception(failure)
            else:
                self.arrive()  # at once, so that no unload can begin between the two
                waiter.set_result(None)

    @property
    def useless(self) -> bool:
        """Whether the engine fails whatever it is given."""
        return self.failures >= _FAILURES

    def look(self, loaded: bool) -> None:
        """Note whether Triton has the model; one that somebody else loaded is idle from now on, not since ever."""
        if loaded and not self.seen:
            self.known_since = time.time()
        self.seen = loaded

    def loaded(self) -> None:
        """Note that the model was loaded here."""
        self.broken = False
        self.failures = 0
        self.generation += 1
        self.seen = True
        self.known_since = time.time()
