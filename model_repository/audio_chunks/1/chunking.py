"""From blocks of decoded audio to the chunks an engine gets."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from talkies_kit.wire import SAMPLE_RATE

from .cutting import WINDOW, Cutter, Knobs, Span

BLOCK = 64 * WINDOW
"""Samples (2 s) that are looked at in one go."""

Pcm = NDArray[np.int16]
Speech = NDArray[np.bool_]
"""Of each window whether it is speech."""
Listener = Callable[[Pcm], NDArray[np.float32]]
"""The speech probabilities of the next windows of one channel; stateful."""


@dataclass(frozen=True, slots=True)
class Chunk:
    """16 kHz mono audio from `start` on; times in seconds. A file without speech has one, empty, with index -1."""

    pcm: Pcm
    speech: Speech
    start: float
    index: int
    channel: int
    duration: float
    """Of the audio known when the chunk was made."""

    @classmethod
    def empty(cls, duration: float) -> Chunk:
        return cls(np.zeros(0, np.int16), np.zeros(0, np.bool_), 0.0, -1, -1, duration)


_Piece = tuple[int, Pcm, Speech]
"""First sample, audio, and what of it is speech."""


class _Channel:
    """The audio of one channel that may still be needed, and where to cut it."""

    def __init__(self, listen: Listener, knobs: Knobs) -> None:
        self._listen = listen
        self._threshold = knobs.threshold
        self._cutter = Cutter(knobs)
        self._pending: list[NDArray[np.float32]] = []
        self._pcm = np.zeros(0, np.int16)
        self._speech = np.zeros(0, np.bool_)
        self._from = 0
        """The window that both begin with."""

    def hear(self, pcm: Pcm) -> None:
        self._pcm = np.concatenate([self._pcm, pcm])
        padded = np.pad(pcm, (0, -len(pcm) % WINDOW))
        probabilities = self._listen(padded)
        self._pending.append(probabilities)
        self._speech = np.concatenate([self._speech, probabilities >= self._threshold])

    def cut(self, *, last: bool) -> list[_Piece]:
        """Each chunk that is settled."""
        probabilities = np.concatenate([*self._pending, np.zeros(0, np.float32)])
        self._pending.clear()
        spans = self._cutter.push(probabilities)
        if last:
            spans += self._cutter.finish()
        chunks = [self._between(span) for span in spans]
        dropped = max(0, self._cutter.kept_from - self._from)
        self._pcm = self._pcm[dropped * WINDOW :].copy()
        self._speech = self._speech[dropped:]
        self._from += dropped
        return chunks

    def whole(self) -> list[_Piece]:
        """All of it as one chunk, if a chunk would be cut from it at all."""
        piece = 0, self._pcm, self._speech
        return [piece] if self.cut(last=True) else []

    def _between(self, span: Span) -> _Piece:
        begin, end = span.start - self._from, span.end - self._from
        return span.start * WINDOW, self._pcm[begin * WINDOW : end * WINDOW].copy(), self._speech[begin:end]


def chunks(
    blocks: Iterable[Pcm], listeners: Sequence[Listener], knobs: Knobs, *, split: bool, whole_up_to: float
) -> Iterator[Chunk]:
    """The chunks of all channels in the order in which they are settled; the last one has the full duration.

    `blocks` are of shape [channels, n] with one listener per channel. Audio of up to `whole_up_to` seconds is one chunk
    per channel. A chunk is held back until the next one is known.
    """
    channels = [_Channel(listen, knobs) for listen in listeners]
    held: Chunk | None = None
    index = 0
    samples = 0
    for pcm, last in _rebuffered(blocks, len(channels)):
        samples += pcm.shape[1]
        duration = samples / SAMPLE_RATE
        found: list[tuple[int, int, Pcm, Speech]] = []
        for number, channel in enumerate(channels):
            channel.hear(pcm[number])
            pieces: list[_Piece] = []
            if duration > whole_up_to:
                pieces = channel.cut(last=last)
            elif last:
                pieces = channel.whole()
            found += [(start, number if split else -1, pcm, speech) for start, pcm, speech in pieces]
        for start, number, piece, speech in sorted(found, key=lambda entry: entry[:2]):
            if held:
                yield held
            held = Chunk(piece, speech, start / SAMPLE_RATE, index, number, duration)
            index += 1
    duration = samples / SAMPLE_RATE
    yield replace(held, duration=duration) if held else Chunk.empty(duration)


def _rebuffered(blocks: Iterable[Pcm], channels: int) -> Iterator[tuple[Pcm, bool]]:
    """The same audio in blocks of BLOCK samples, the last one shorter and marked; nothing for no audio."""
    parts: list[Pcm] = []
    size = 0
    for block in blocks:
        parts.append(block)
        size += block.shape[1]
        if size > BLOCK:  # never all of it: the last block must be known to be the last
            joined = np.concatenate(parts, axis=1)
            whole = (size - 1) // BLOCK * BLOCK
            for begin in range(0, whole, BLOCK):
                yield joined[:, begin : begin + BLOCK], False
            parts = [joined[:, whole:]]
            size -= whole
    if size:
        yield np.concatenate(parts, axis=1), True
