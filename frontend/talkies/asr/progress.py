"""A transcript while it is made: chunks in any order become updates in the transcript's order. Pure."""

from __future__ import annotations

from bisect import insort
from collections.abc import Iterable
from dataclasses import dataclass, replace

from talkies_kit.wire import Token

from talkies.asr.transcript import SPEAKERS, Placed, Script, TranscriptSegment, cut, place, shown, tokens
from talkies.engines.triton import ChunkAnswer


@dataclass(frozen=True, slots=True)
class Update:
    """The next segment, as `merge` will have it, and what it adds to `Transcript.text` and `.plain`."""

    text: str
    plain: str
    segment: TranscriptSegment | None
    """None unless diarized, where its end is waited for; and of a model that tells no times."""
    tokens: list[Token]
    """Of `text`."""


@dataclass(frozen=True, slots=True)
class Step:
    """What one more chunk settles, often nothing."""

    updates: list[Update]
    seconds: float
    """Of the audio, from its start, up to which all is recognised."""


class Progress:
    """Gives out what no later chunk can change.

    Chunks are numbered without gaps, in the order in which `audio_chunks` found them; those of one channel follow each
    other in time. One of another channel may begin up to `horizon` seconds before what was decoded with an earlier one.
    """

    def __init__(
        self, *, language: str, diarized: bool, horizon: float, timestamps: bool = True, written: str = ""
    ) -> None:
        """As `merge`."""
        self._written = written or language
        self._diarized = diarized
        self._timestamps = timestamps
        self._horizon = horizon
        self._text = Script(turns=diarized)
        self._plain = Script(turns=False)
        self._early: dict[int, ChunkAnswer] = {}
        """By index, chunks whose predecessors are still awaited."""
        self._next = 0
        self._waiting: list[Placed] = []
        self._latest: dict[int, float] = {}
        self._decoded = 0.0
        self._given = 0

    @property
    def seconds(self) -> float:
        """Of the audio, from its start, up to which all chunks are there."""
        return self._decoded

    def add(self, chunk: ChunkAnswer) -> list[Update]:
        """The updates that are settled now; a chunk comes once."""
        self._early[chunk.index] = chunk
        while following := self._early.pop(self._next, None):
            self._next += 1
            self._place(following)
        return self._settled()

    def finish(self) -> list[Update]:
        """The rest, when all chunks are there."""
        for _, chunk in sorted(self._early.items()):
            self._place(chunk)
        self._early.clear()
        rest, self._waiting = self._waiting, []
        return self._updates(rest)

    def _place(self, chunk: ChunkAnswer) -> None:
        channel = chunk.channel
        placed = place(chunk, since=self._latest.get(channel, 0.0), written=self._written, timestamps=self._timestamps)
        for entry in placed:
            before = next((i for i in reversed(range(len(self._waiting))) if self._waiting[i].channel == channel), None)
            if before is not None:
                earlier = self._waiting[before]
                end = cut(earlier.segment, entry.segment)
                self._waiting[before] = replace(earlier, segment=replace(earlier.segment, end=end))
            insort(self._waiting, entry, key=lambda waiting: waiting.order)
            self._latest[channel] = entry.segment.start
        self._decoded = max(self._decoded, chunk.duration)

    def _settled(self) -> list[Update]:
        settled = 0
        if self._diarized:
            while settled < len(self._waiting) and self._is_settled(settled):
                settled += 1
        else:
            settled = len(self._waiting)
        given, self._waiting = self._waiting[:settled], self._waiting[settled:]
        return self._updates(given)

    def _is_settled(self, index: int) -> bool:
        entry = self._waiting[index]
        ends = any(later.channel == entry.channel for later in self._waiting[index + 1 :]) or (
            entry.segment.end <= self._earliest(entry.channel)
        )
        others = (channel for channel in range(len(SPEAKERS)) if channel != entry.channel)
        return ends and all(entry.segment.start < self._earliest(channel) for channel in others)

    def _earliest(self, channel: int) -> float:
        """Where the next segment of a channel can start at the earliest."""
        return max(self._latest.get(channel, 0.0), round(self._decoded - self._horizon, 3))

    def _updates(self, settled: Iterable[Placed]) -> list[Update]:
        updates = []
        for entry in settled:
            segment = shown(self._given, entry, True) if self._diarized and self._timestamps else None
            text = self._text.add(entry)
            updates.append(Update(text, self._plain.add(entry), segment, tokens(entry, text)))
            self._given += 1
        return updates
