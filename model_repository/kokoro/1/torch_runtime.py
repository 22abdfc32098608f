"""Kokoro on PyTorch, for GPUs: the published weights through the `kokoro` package."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from kokoro import KModel
from loguru import logger
from numpy.typing import NDArray

logger.disable("kokoro")  # it logs the phonemes of what is spoken


class TorchKokoro:
    """The model on `device` ("cuda:0"; "cpu" works too)."""

    def __init__(self, folder: Path, device: str) -> None:
        config, weights = folder / "config.json", folder / "kokoro-v1_0.pth"
        self._model = KModel("hexgrad/Kokoro-82M", config=str(config), model=str(weights)).to(device).eval()

    def __call__(self, phonemes: str, style: NDArray[np.float32], speed: float) -> NDArray[np.float32]:
        """Samples (FP32, 24 kHz) of at most 510 known phonemes in a style, FP32[256]."""
        samples: NDArray[np.float32] = self._model(phonemes, torch.from_numpy(style)[None], speed).numpy()
        return samples


def read_voice(path: Path) -> NDArray[np.float32]:
    """The numbers of a voice file of the published weights."""
    numbers: NDArray[np.float32] = torch.load(path, map_location="cpu", weights_only=True).numpy()
    return numbers
