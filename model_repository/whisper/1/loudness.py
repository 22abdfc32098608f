"""Moves word times off the pauses. Pure.

Whisper's alignment knows where a word follows another, not where a pause is: a word after a pause starts in it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray
from talkies_kit.wire import SAMPLE_RATE, Word

FRAME = 0.01
"""Seconds per frame of which the loudness is measured."""
QUIET = 0.05
"""Part of the loud frames' level (95th percentile) below which a frame counts as pause: 26 dB down."""
MARGIN = 0.05
"""Seconds left before and after the sound: consonants are quiet."""
PAUSE = 0.3
"""Seconds of quiet that no word has in it: one that seems to is the louder side only."""


def tightened(words: Sequence[Word], samples: NDArray[np.float32]) -> list[Word]:
    """`words` cut to where there is sound in `samples` (mono FP32, 16 kHz).

    Times only move inwards; a word in which all is quiet keeps its own.
    """
    size = round(FRAME * SAMPLE_RATE)
    frames = samples[: len(samples) // size * size].reshape(-1, size)
    if not len(frames):
        return list(words)
    level = np.sqrt((frames.astype(np.float64) ** 2).mean(axis=1))
    loud = level > QUIET * np.percentile(level, 95)
    return [_word(word, loud) for word in words]


def _word(word: Word, loud: NDArray[np.bool_]) -> Word:
    first = round(word.start / FRAME)
    sounding = np.flatnonzero(loud[first : round(word.end / FRAME)])
    if not len(sounding):
        return word
    runs = np.split(sounding, np.flatnonzero(np.diff(sounding) > PAUSE / FRAME) + 1)
    sounding = max(runs, key=len)
    start = max(word.start, (first + sounding[0]) * FRAME - MARGIN)
    end = min(word.end, (first + sounding[-1] + 1) * FRAME + MARGIN)
    return replace(word, start=round(float(start), 3), end=round(float(max(start, end)), 3))
