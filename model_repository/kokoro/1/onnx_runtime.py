"""Kokoro on onnxruntime: the int8 graph, on CPU."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from .vocabulary import Vocabulary

LONG = 100
"""Phonemes at natural speed from which a call's working memory (1.6 MB for each) is given back; costs 10 % of speed."""


class OnnxKokoro:
    """The model in memory. One call at a time uses all its threads."""

    def __init__(self, path: Path, vocabulary: Vocabulary, threads: int) -> None:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        self._session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
        self._shrink = onnxruntime.RunOptions()
        self._shrink.add_run_config_entry("memory.enable_memory_arena_shrinkage", "cpu:0")
        self._vocabulary = vocabulary

    def __call__(self, phonemes: str, style: NDArray[np.float32], speed: float) -> NDArray[np.float32]:
        """Samples (FP32, 24 kHz) of at most 510 known phonemes in a style, FP32[256]."""
        inputs = {
            "tokens": np.array([self._vocabulary.tokens(phonemes)], np.int64),
            "style": style[np.newaxis],
            "speed": np.array([speed], np.float32),
        }
        options = self._shrink if len(phonemes) > LONG * speed else None
        samples: NDArray[np.float32] = self._session.run(None, inputs, options)[0]
        return samples
