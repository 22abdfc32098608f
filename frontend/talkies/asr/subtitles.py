"""Lays a transcript out as subtitles that people can read: short lines, cut where a speaker or a clause ends. Pure."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import accumulate, pairwise

from talkies.asr.transcript import Transcript
from talkies.asr.wording import Unit, break_cost, width, with_names
from talkies.asr.wording import units as units_of

PAUSE = 1.5
"""Seconds of silence over which no cue reaches."""
SHORTEST = 0.8
"""Seconds that a cue is shown at least, where what comes next leaves room."""
_COMFORT = 1.5
"""Seconds below which a cue is brief."""
_CUE, _FULL, _SENTENCE, _BRIEF = 3.0, 3.0, 3.0, 3.0
"""What a cue costs: any, a full one (half of it a quarter), a sentence that ends within it, a second too brief."""
_UNEVEN = 8.0
"""Columns by which a line may differ from the others at the cost of 1."""


@dataclass(frozen=True, slots=True)
class Layout:
    """How large a cue may be."""

    width: int = 42
    """Columns of a line; a Chinese, Japanese or Korean character takes two."""
    lines: int = 2
    seconds: float = 7.0


DEFAULT = Layout()


@dataclass(frozen=True, slots=True)
class Cue:
    """What is shown from `start` to `end`, in seconds."""

    start: float
    end: float
    lines: tuple[str, ...]


def cues(transcript: Transcript, layout: Layout) -> list[Cue]:
    """By start, none overlapping another. A transcript without times is one cue over its whole length."""
    if not transcript.segments:
        lines = [" ".join(line.split()) for line in transcript.text.split("\n")]
        return [Cue(0.0, transcript.duration, tuple(filter(None, lines)))] if transcript.text else []
    found: list[Cue] = []
    for channel in sorted({segment.channel or "" for segment in transcript.segments}):
        own = [segment for segment in transcript.segments if (segment.channel or "") == channel]
        name = f"{channel}: " if channel else ""
        widest = layout.width - len(name)
        units = [unit for segment in own for unit in units_of(segment, widest)]
        for run in _runs(units):
            found += _laid_out(with_names(run, widest), name, layout)
    return _timed(sorted(found, key=lambda cue: (cue.start, cue.end)), layout, transcript.duration)


def _runs(units: Sequence[Unit]) -> Iterator[list[Unit]]:
    """Units between long pauses."""
    run: list[Unit] = []
    for unit in units:
        if run and unit.start - run[-1].end >= PAUSE:
            yield run
            run = []
        run.append(unit)
    if run:
        yield run


def _laid_out(units: Sequence[Unit], name: str, layout: Layout) -> list[Cue]:
    """The cheapest way to cut the units into cues: few, even ones, that end where a sentence or a clause does."""
    setting = _Setting(units, len(name), layout)
    best = [0.0]
    cut = [0]
    for end in range(1, len(units) + 1):
        options = ((best[start] + setting.cue_cost(start, end), start) for start in setting.starts(end))
        cost, start = min(options)
        best.append(cost + (setting.breaks[end] if end < len(units) else 0.0))
        cut.append(start)
    found = []
    end = len(units)
    while end:
        start = cut[end]
        lines = setting.lines(start, end)
        found.append(Cue(units[start].start, max(unit.end for unit in units[start:end]), (name + lines[0], *lines[1:])))
        end = start
    return found[::-1]


class _Setting:
    """Units, and what it costs to put some of them into a cue."""

    def __init__(self, units: Sequence[Unit], indent: int, layout: Layout) -> None:
        self._units = units
        self._indent = indent
        self._layout = layout
        self._ends = [0, *accumulate(width(unit.text) for unit in units)]
        self._spaces = [int(unit.text.startswith(" ")) for unit in units]
        self.breaks = [0.0, *(break_cost(a, b) for a, b in pairwise(units)), 0.0]
        """What it costs to end a cue before the unit of that index."""
        self._sentences = [0, *accumulate(int(cost <= 0) for cost in self.breaks[1:])]

    def _columns(self, start: int, end: int) -> int:
        return self._ends[end] - self._ends[start] - self._spaces[start]

    def starts(self, end: int) -> Iterator[int]:
        """Where a cue that ends before `end` may start; there is always the unit before."""
        yield end - 1
        for start in range(end - 2, -1, -1):
            if self._units[end - 1].end - self._units[start].start > self._layout.seconds:
                return
            if self._least_lines(start, end) > self._layout.lines:
                return
            yield start

    def _least_lines(self, start: int, end: int) -> int:
        lines, room = 1, self._layout.width - self._indent
        while start < end and self._columns(start, end) > room:
            reach = self._ends[start] + self._spaces[start] + room
            start = max(start + 1, bisect_right(self._ends, reach, start + 1, end + 1) - 1)
            lines += start < end
            room = self._layout.width
        return lines

    def cue_cost(self, start: int, end: int) -> float:
        seconds = self._units[end - 1].end - self._units[start].start
        fill = self._columns(start, end) / (self._layout.width * self._layout.lines)
        within = self._sentences[end - 1] - self._sentences[start]
        return _CUE + _FULL * fill * fill + _SENTENCE * within + _BRIEF * max(0.0, _COMFORT - seconds)

    def lines(self, start: int, end: int) -> list[str]:
        """The text in as few lines as it fits, of even lengths."""
        count = self._least_lines(start, end)
        even = (self._columns(start, end) + self._indent) / count
        ways: dict[int, tuple[float, tuple[int, ...]]] = {start: (0.0, ())}
        for line in range(count):
            indent = 0 if line else self._indent
            longer: dict[int, tuple[float, tuple[int, ...]]] = {}
            for at, (cost, cuts) in ways.items():
                for to in range(at + 1, end + 1):
                    columns = self._columns(at, to) + indent
                    if columns > self._layout.width and to > at + 1:
                        break
                    if (to == end) != (line == count - 1):
                        continue
                    way = cost + ((columns - even) / _UNEVEN) ** 2 + (self.breaks[to] if to < end else 0.0)
                    if to not in longer or way < longer[to][0]:
                        longer[to] = (way, (*cuts, to))
            ways = longer
        bounds = [start, *ways[end][1]]
        return ["".join(unit.text for unit in self._units[a:b]).strip() for a, b in pairwise(bounds)]


def _timed(found: Sequence[Cue], layout: Layout, duration: float) -> list[Cue]:
    """None overlaps another, and each is shown for long enough, as far as there is room."""
    least = min(SHORTEST, layout.seconds)
    apart: list[Cue] = []
    for cue in found:
        start, end = cue.start, min(max(cue.start, cue.end), cue.start + layout.seconds)
        if apart and apart[-1].end > start:  # two speak at the same time
            before = apart[-1]
            start = min(before.end, max(start, before.start + least))
            apart[-1] = replace(before, end=start)
        apart.append(replace(cue, start=start, end=max(start, end)))
    shown: list[Cue] = []
    for i, cue in enumerate(apart):
        low = shown[-1].end if shown else 0.0
        high = apart[i + 1].start if i + 1 < len(apart) else max(duration, cue.end)
        end = max(cue.end, min(cue.start + least, high))
        start = min(cue.start, max(end - least, low))
        shown.append(replace(cue, start=start, end=end))
    return shown
