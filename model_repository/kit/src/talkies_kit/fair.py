"""Sharing one engine between requests: who goes next."""

from __future__ import annotations

import heapq
from dataclasses import dataclass, field
from typing import Generic, TypeVar

T = TypeVar("T")


@dataclass(slots=True, order=True)
class Turn(Generic[T]):
    """A job's place in the line, ordered by what it was given so far."""

    used: float
    turns: int
    arrival: int
    job: T = field(compare=False)


class FairQueue(Generic[T]):
    """Jobs that are done in small steps; the one that was given least so far goes next.

    A newcomer starts level with the least-served job, so it is among the next but cannot starve the others. `add`, then
    `take` a turn, do a step, and `put_back` the turn with the step's cost unless the job is done. Not locked.
    """

    def __init__(self) -> None:
        self._heap: list[Turn[T]] = []
        self._level = 0.0
        self._arrivals = 0

    def __len__(self) -> int:
        return len(self._heap)

    def add(self, job: T) -> None:
        self._arrivals += 1
        heapq.heappush(self._heap, Turn(self._level, 0, self._arrivals, job))

    def take(self) -> Turn[T]:
        """The next turn. Raises IndexError when no job waits."""
        turn = heapq.heappop(self._heap)
        self._level = turn.used
        return turn

    def put_back(self, turn: Turn[T], cost: float) -> None:
        """Let the job wait for its next turn; `cost` (any unit, not negative) is what this one took."""
        turn.used += cost
        turn.turns += 1
        heapq.heappush(self._heap, turn)
