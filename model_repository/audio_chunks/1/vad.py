"""Silero VAD on onnxruntime alone, block by block."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from .cutting import WINDOW

_CONTEXT = 64
"""Samples of the window before that the model sees besides a window."""


def load_session() -> onnxruntime.InferenceSession:
    """The model; shared by all streams. Raises RuntimeError when silero-vad is not installed."""
    # The package is found, not imported: importing it needs torch.
    spec = importlib.util.find_spec("silero_vad")
    if spec is None or spec.origin is None:
        raise RuntimeError("the silero-vad package is not installed in the environment of audio_chunks")
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    path = Path(spec.origin).with_name("data") / "silero_vad_16k_sequence.onnx"
    return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


class Vad:
    """The state of one stream of audio."""

    def __init__(self, session: onnxruntime.InferenceSession) -> None:
        self._session = session
        self._h = self._c = np.zeros((1, 1, 128), np.float32)
        self._context = np.zeros(_CONTEXT, np.float32)

    def probabilities(self, pcm: NDArray[np.int16]) -> NDArray[np.float32]:
        """The speech probability of each of the stream's next windows; `len(pcm)` is a multiple of WINDOW."""
        if not len(pcm):
            return np.zeros(0, np.float32)
        samples = np.concatenate([self._context, pcm.astype(np.float32) / 32768])
        self._context = samples[-_CONTEXT:]
        windows = np.lib.stride_tricks.sliding_window_view(samples, _CONTEXT + WINDOW)[::WINDOW]
        speech, self._h, self._c = self._session.run(
            None, {"input": np.ascontiguousarray(windows), "h": self._h, "c": self._c}
        )
        return np.asarray(speech, np.float32)
