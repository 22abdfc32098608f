"""Where audio is cut: speech probabilities in, spans of at most so many windows out. Pure; a window is 512 samples."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from talkies_kit.wire import SPEECH_FRAME

WINDOW = SPEECH_FRAME
"""Samples (32 ms at 16 kHz) that one speech probability stands for."""
HYSTERESIS = 0.15
"""Once there is speech, it lasts until the probability falls this far below the threshold."""
BLIP = 3
"""Speech of fewer windows between two silences is a click or a cough."""
LONGEST_GAP = 4.0
"""Seconds of silence that a chunk may hold between two stretches of speech."""
DIP = 5
"""Windows over which the probability is averaged when a cut must be made within speech."""


@dataclass(frozen=True, slots=True)
class Knobs:
    """How chunks are cut; lengths in windows."""

    threshold: float
    longest: int
    silence: int
    """Silence that ends a stretch of speech."""
    pad: int
    """Kept around a stretch of speech."""

    @classmethod
    def of(cls, threshold: float, max_speech: float, min_silence_ms: float, pad_ms: float) -> Knobs:
        """From seconds and milliseconds."""
        per_second = 16_000 / WINDOW
        return cls(
            threshold=threshold,
            longest=max(2 * DIP, int(max_speech * per_second)),
            silence=max(1, round(min_silence_ms / 1000 * per_second)),
            pad=round(pad_ms / 1000 * per_second),
        )


@dataclass(frozen=True, slots=True)
class Span:
    """A chunk, in windows from the start of the audio; `end` is exclusive."""

    start: int
    end: int


class Cutter:
    """Cuts while the probabilities come in.

    Every span is at most `knobs.longest` windows, spans never overlap and come in order, and every stretch of speech
    but a blip is in one or, when it is longer than a span, in several that touch. A span holds neighbouring stretches
    as long as they fit, because an engine's work per chunk does not depend on how full it is.
    """

    def __init__(self, knobs: Knobs) -> None:
        self._knobs = knobs
        self._probabilities: NDArray[np.float32] = np.zeros(0, np.float32)
        self._base = 0

    @property
    def kept_from(self) -> int:
        """The first window that a later span may hold."""
        return self._base

    def push(self, probabilities: NDArray[np.float32]) -> list[Span]:
        """Take the next windows' probabilities; the spans that are settled by them."""
        self._probabilities = np.concatenate([self._probabilities, probabilities])
        return self._settled(last=False)

    def finish(self) -> list[Span]:
        """The remaining spans, when no more audio comes."""
        return self._settled(last=True)

    def _settled(self, *, last: bool) -> list[Span]:
        spans = []
        while (span := self._next(last)) is not None:
            spans.append(span)
        return spans

    def _drop(self, windows: int) -> None:
        self._probabilities = self._probabilities[windows:]
        self._base += windows

    def _take(self, start: int, end: int) -> Span:
        span = Span(self._base + start, self._base + end)
        self._drop(end)
        return span

    def _next(self, last: bool) -> Span | None:
        knobs = self._knobs
        while True:
            known = len(self._probabilities)
            speech = self._probabilities >= knobs.threshold
            if not speech.any():
                # What is loud enough to be the start of speech is kept, and the pad before it.
                self._drop(max(0, _onset(self._quiet(), known) - knobs.pad))
                return None
            quiet = self._quiet()
            onset = _onset(quiet, int(speech.argmax()))
            start = max(0, onset - knobs.pad)
            limit = start + knobs.longest
            pauses = _runs(quiet[:limit], onset)
            first = next((p for p in pauses if p[1] - p[0] >= knobs.silence), None)
            if first and np.count_nonzero(speech[onset : first[0]]) < BLIP:
                self._drop(first[0])
                continue
            gap = next((p for p in pauses if p[1] - p[0] >= LONGEST_GAP * 16_000 / WINDOW), None)
            if gap:
                return self._take(start, min(gap[0] + knobs.pad, gap[1]))
            if known <= limit and not last:
                return None
            if known <= limit:
                return self._rest(start, onset, speech, quiet)
            return self._take(start, self._cut(start, limit, pauses))

    def _quiet(self) -> NDArray[np.bool_]:
        return self._probabilities < max(self._knobs.threshold - HYSTERESIS, self._knobs.threshold / 2)

    def _rest(self, start: int, onset: int, speech: NDArray[np.bool_], quiet: NDArray[np.bool_]) -> Span | None:
        """The last span: all that is left fits."""
        if np.count_nonzero(speech[onset:]) < BLIP:
            self._drop(len(speech))
            return None
        end = int(np.flatnonzero(~quiet)[-1]) + 1
        span = self._take(start, min(end + self._knobs.pad, len(speech)))
        self._drop(len(self._probabilities))
        return span

    def _cut(self, start: int, limit: int, pauses: list[tuple[int, int]]) -> int:
        """Where to end a span that cannot hold all that follows.

        The last silence in its second half, else the deepest dip there if there is one, else the last silence in its
        first half, else wherever speech is least likely.
        """
        silences = [p for p in pauses if p[1] - p[0] >= self._knobs.silence]
        half = start + self._knobs.longest // 2
        if silences and silences[-1][1] > half:
            return self._within(silences[-1], limit)
        smooth = np.convolve(self._probabilities[half:limit], np.ones(DIP) / DIP, "valid")
        # Of equal dips the latest, so that the chunk is full.
        dip = len(smooth) - 1 - int(smooth[::-1].argmin())
        if silences and smooth[dip] >= self._knobs.threshold:
            return self._within(silences[-1], limit)
        return half + dip + DIP // 2 + 1

    def _within(self, silence: tuple[int, int], limit: int) -> int:
        """The end of a span that ends in `silence`: padded, unless the next one's pad needs the room."""
        begin, end = silence
        roomy = end - begin >= 2 * self._knobs.pad
        return min(begin + self._knobs.pad if roomy else (begin + end + 1) // 2, limit)


def _onset(quiet: NDArray[np.bool_], window: int) -> int:
    """The first of the windows before `window` from which on it is not quiet."""
    before = np.flatnonzero(quiet[:window])
    return int(before[-1]) + 1 if len(before) else 0


def _runs(quiet: NDArray[np.bool_], begin: int) -> list[tuple[int, int]]:
    """The stretches [from, to) of quiet windows from `begin` on."""
    edges = np.flatnonzero(np.diff(np.concatenate([[False], quiet[begin:], [False]]).astype(np.int8)))
    return [(begin + int(a), begin + int(b)) for a, b in edges.reshape(-1, 2)]
