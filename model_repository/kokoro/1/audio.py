"""What happens to the samples of a model call before they go out."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

QUIET = 0.01
"""Amplitude below which the model's own lead-in (0.3 s) and tail (0.5 s) lie."""
MARGIN_BEFORE, MARGIN_AFTER = 0.06, 0.12
"""Seconds kept around the audible part: soft consonants lie below QUIET."""
FADE = 0.005


def trimmed(samples: NDArray[np.float32], rate: int) -> NDArray[np.float32]:
    """`samples` (FP32 in [-1, 1], `rate` Hz) without the silence around the speech, ends faded so as not to click."""
    loud = np.flatnonzero(np.abs(samples) > QUIET)
    if not len(loud):
        return samples[:0]
    first = max(0, int(loud[0] - MARGIN_BEFORE * rate))
    part = samples[first : int(loud[-1] + MARGIN_AFTER * rate)].copy()
    ramp = np.linspace(0, 1, min(len(part), int(FADE * rate)), dtype=np.float32)
    part[: len(ramp)] *= ramp
    part[len(part) - len(ramp) :] *= ramp[::-1]
    return part


def pcm(samples: NDArray[np.float32], pause: float, rate: int) -> NDArray[np.int16]:
    """`pause` seconds of silence, then `samples` as INT16."""
    silence = np.zeros(round(pause * rate), np.int16)
    return np.concatenate([silence, (np.clip(samples, -1, 1) * 32767).astype(np.int16)])
