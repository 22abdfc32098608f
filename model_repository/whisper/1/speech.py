"""Where somebody speaks in a window, as the Silero that faster-whisper brings along hears it."""

from __future__ import annotations

import numpy as np
from faster_whisper.vad import get_vad_model
from numpy.typing import NDArray
from talkies_kit.wire import SPEECH_FRAME

LIKELY = 0.5
"""Probability from which on a frame is speech."""


def speech(samples: NDArray[np.float32]) -> NDArray[np.bool_]:
    """Per SPEECH_FRAME of samples (mono FP32, 16 kHz) whether it is speech; the last frame may be a part of one."""
    padded = np.pad(samples, (0, -len(samples) % SPEECH_FRAME))
    return np.asarray(get_vad_model()(padded)).reshape(-1) >= LIKELY
