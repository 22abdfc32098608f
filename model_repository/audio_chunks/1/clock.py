"""Where decoded sound belongs on its file's own clock. Pure."""

from __future__ import annotations

HOLE = 0.1
"""Seconds by which sound may be late before that is a hole; stamps are rounded, and clocks differ."""
LONGEST = 3600.0
"""Seconds of the longest hole that is believed; more is a broken stamp, and what follows goes on without a pause."""


class Clock:
    """Tells for each frame how much silence belongs before it; all in seconds.

    Nothing is ever taken away: sound whose stamp lies before the end of what was there already follows that.
    """

    def __init__(self, origin: float | None, longest: float) -> None:
        """`origin` is the stamp at which the file begins, None for that of its first frame; the whole lasts at most
        `longest`."""
        self._origin = origin
        self._longest = longest
        self._position = 0.0
        self._expected = 0.0
        """Where a frame that follows without a hole has its stamp."""

    def silence_before(self, stamp: float | None, seconds: float) -> float:
        """Seconds of silence between what was there and a frame of `seconds` with this stamp, None for none."""
        silence = 0.0
        if stamp is not None:
            if self._origin is None:
                self._origin = stamp
            at = stamp - self._origin
            late = at - self._position
            if at < self._expected - HOLE or late > LONGEST or self._position + late + seconds > self._longest:
                self._origin = stamp - self._position  # the clock was set anew
                at = self._position
            elif late > HOLE:
                silence = late
            self._expected = at
        self._position += silence + seconds
        self._expected += seconds
        return silence
