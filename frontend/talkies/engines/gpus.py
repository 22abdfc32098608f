"""What tritonserver's environment says of GPUs: none for itself; for engines which ones, and where to keep kernels."""

from __future__ import annotations

import os
from pathlib import Path

from talkies_kit.wire import VISIBLE_DEVICES_VARIABLE

_COMPILED = str(4 << 30)
"""Bytes of compiled kernels that are kept: all of CTranslate2's and PyTorch's for one GPU."""


def environment(data: Path) -> dict[str, str]:
    """Variables for a tritonserver of the data directory `data`.

    tritonserver would take memory of every GPU that it sees, for tensors that no engine sends there. The engines'
    processes inherit that, and are told beside it which GPUs they may use.
    """
    cache = data / "cache"
    return {
        "CUDA_VISIBLE_DEVICES": "",
        VISIBLE_DEVICES_VARIABLE: os.environ.get("CUDA_VISIBLE_DEVICES", ""),
        # Kept under the data directory: a home folder may not be there, and then each load compiles for minutes.
        "CUDA_CACHE_PATH": str(cache / "cuda"),
        "CUDA_CACHE_MAXSIZE": _COMPILED,
        "TRITON_CACHE_DIR": str(cache / "triton"),
    }
