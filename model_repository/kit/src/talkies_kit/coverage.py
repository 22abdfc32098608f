"""Which speech has no words: what a decoder that stops early, or begins late, has left out. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from talkies_kit.wire import SAMPLE_RATE, SPEECH_FRAME, Word

FRAME = SPEECH_FRAME / SAMPLE_RATE
"""Seconds of a frame."""
LEAST = 0.7
"""Seconds of speech in a gap that are worth another look: below, it is a breath, a filler or the end of a long word.
Of 182 LibriSpeech sentences joined by twos and threes 1.0 lost one and 0.7 none, nor of 181 others; 0.5 cost words."""
LONGEST = 1.2
"""Seconds of a word. One that seems longer has swallowed others: only so much of it is taken as said, at both ends."""
PAD = 0.2
"""Seconds left around the speech of a gap, as far as no word is there."""
EDGE = 0.5
"""Seconds at the edge of a gap in which the sound of a neighbour may be."""
FASTEST = 25.0
"""Characters that somebody says in a second, at most."""


@dataclass(frozen=True, slots=True)
class Gap:
    """A stretch in which somebody speaks and no word is; in seconds."""

    start: float
    end: float
    speech: float
    """Of it, seconds of speech."""
    language: str = ""
    """Where it is known already."""

    def shifted(self, seconds: float) -> Gap:
        """The same, later by `seconds`."""
        return replace(self, start=self.start + seconds, end=self.end + seconds)


def gaps(speech: NDArray[np.bool_], words: Sequence[Word]) -> list[Gap]:
    """The gaps of a window, in order; `speech` tells of each FRAME whether it is speech."""
    free = np.ones(len(speech), np.bool_)
    for word in words:
        for start, end in _said(word):
            free[int(start / FRAME) : int(np.ceil(end / FRAME))] = False
    edges = np.flatnonzero(np.diff(np.concatenate([[False], free, [False]]).astype(np.int8)))
    found = (_gap(speech, int(start), int(end)) for start, end in edges.reshape(-1, 2))
    return [gap for gap in found if gap.speech >= LEAST]


def _said(word: Word) -> list[tuple[float, float]]:
    if word.end - word.start <= LONGEST:
        return [(word.start, word.end)]
    return [(word.start, word.start + LONGEST / 2), (word.end - LONGEST / 2, word.end)]


def _gap(speech: NDArray[np.bool_], start: int, end: int) -> Gap:
    spoken = start + np.flatnonzero(speech[start:end])
    if not len(spoken):
        return Gap(start * FRAME, end * FRAME, 0.0)
    pad = round(PAD / FRAME)
    return Gap(
        max(start, int(spoken[0]) - pad) * FRAME, min(end, int(spoken[-1]) + 1 + pad) * FRAME, len(spoken) * FRAME
    )


def place(words: Sequence[Word], gap: Gap) -> tuple[list[Word], list[Word]]:
    """The words before and after a gap. One that reaches over it gives way: the first of a sentence comes after it."""
    before = [word for word in words if word.start < gap.start]
    after = [word for word in words if word.start >= gap.start]
    if before and before[-1].end > gap.start:
        last = before.pop()
        if not before or before[-1].word.rstrip().endswith(_ENDS):
            after.insert(0, replace(last, start=min(max(last.start, gap.end), last.end)))
        else:
            before.append(replace(last, end=gap.start))
    return before, after


_ENDS = (".", "?", "!", "…", "。", "？", "！")  # noqa: RUF001


def without_repeats(before: Sequence[Word], found: Sequence[Word], after: Sequence[Word], gap: Gap) -> list[Word]:
    """`found` in a gap, without what its neighbours have said already.

    The gap may hold an edge of their sound, or all of it where their times are wrong. What was really said again stays.
    """
    rest = list(found)
    head = _overlap([_bare(word) for word in before], [_bare(word) for word in rest])
    if head and (rest[head - 1].end - gap.start <= EDGE or not _is_sayable(before[-head:])):
        rest = rest[head:]
    tail = _overlap([_bare(word) for word in rest], [_bare(word) for word in after])
    if tail and (gap.end - rest[-tail].start <= EDGE or not _is_sayable(after[:tail])):
        rest = rest[: len(rest) - tail]
    return rest


def _is_sayable(words: Sequence[Word]) -> bool:
    """Whether the words' times leave room to say them."""
    return sum(len(_bare(word)) for word in words) <= FASTEST * (words[-1].end - words[0].start)


def _overlap(first: Sequence[str], second: Sequence[str]) -> int:
    """How many of the last of `first` are the first of `second`."""
    longest = min(len(first), len(second))
    return next((n for n in range(longest, 0, -1) if list(first[-n:]) == list(second[:n])), 0)


def _bare(word: Word) -> str:
    return "".join(character for character in word.word.lower() if character.isalnum())
