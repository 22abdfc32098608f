"""How often a request is run: once more when what it ran in has died, within the time that it may take."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass

from talkies.errors import Unavailable


@dataclass(frozen=True, slots=True)
class Attempt:
    """One run of a request."""

    last: bool
    within: float
    """Seconds that are left for it."""

    def forgive(self, error: Unavailable) -> None:
        """Raise the error unless the request is run again."""
        if self.last or not error.again:
            raise error


def attempts(within: float) -> Iterator[Attempt]:
    """Two of them, together within so many seconds."""
    deadline = time.monotonic() + within
    yield Attempt(last=False, within=within)
    yield Attempt(last=True, within=max(1.0, deadline - time.monotonic()))
