"""The GPU as an engine sees it: which one is its own, what its libraries raise, what gives its memory back.

Imports none of those libraries: it asks the one that the engine has imported.
"""

from __future__ import annotations

import gc
import os
import sys

import numpy as np

from talkies_kit.wire import VISIBLE_DEVICES_VARIABLE

_MEMORY = ("out of memory", "ALLOC_FAILED")
_MARKS = ("cuda", "cublas", "cudnn")


def choose(device: str) -> str:
    """Make the GPU that "cuda:N" means the only one that this process sees; the device to name from then on.

    Libraries start threads and graphs on their first GPU whatever they are told, so the right one has to be that. To be
    called before any of them is imported. Raises RuntimeError when it is not among those that may be used.
    """
    kind, _, index = device.partition(":")
    if kind != "cuda":
        return device
    os.environ.setdefault("CUDA_DEVICE_ORDER", "PCI_BUS_ID")  # what nvidia-smi counts by
    number = int(index or 0)
    allowed = os.environ.get(VISIBLE_DEVICES_VARIABLE, os.environ.get("CUDA_VISIBLE_DEVICES", ""))
    names = [name.strip() for name in allowed.split(",") if name.strip()]
    if names and number >= len(names):
        raise RuntimeError(f"there is no {device}: CUDA_VISIBLE_DEVICES allows {len(names)} GPU(s), counted from 0")
    os.environ["CUDA_VISIBLE_DEVICES"] = names[number] if names else str(number)
    return "cuda:0"


def is_out_of_memory(error: BaseException) -> bool:
    """Whether the GPU's memory did not suffice: torch's OutOfMemoryError, or what CTranslate2 and cuBLAS say of it."""
    if type(error).__name__ == "OutOfMemoryError":
        return True
    return isinstance(error, RuntimeError) and any(words in str(error) for words in _MEMORY)


def is_lost(error: BaseException) -> bool:
    """Whether this process can use its GPU no more.

    After an illegal access, a failed assertion or an uncorrectable error every further call fails; only another process
    helps.
    """
    if is_out_of_memory(error):
        return False
    named = f"{type(error).__name__} {error}".lower()
    return any(mark in named for mark in (*_MARKS, "acceleratorerror")) and not _answers()


def free() -> None:
    """Give back what failed work has left in the GPU's memory; outside of its `except`, which holds on to it."""
    gc.collect()
    torch = sys.modules.get("torch")
    if torch and torch.cuda.is_initialized():
        torch.cuda.empty_cache()


def _answers() -> bool:
    """Whether the GPU still does the least thing; True where none was used."""
    try:
        if torch := sys.modules.get("torch"):
            if torch.cuda.is_initialized():
                torch.cuda.synchronize()
        elif library := sys.modules.get("ctranslate2"):
            library.StorageView.from_array(np.zeros(1, np.float32)).to_device(library.Device.cuda)
    except Exception:
        return False
    return True
