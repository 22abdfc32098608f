"""What the engines on NVIDIA NeMo share: loading a model, running a batch, reading its answers.

Nothing of NeMo is imported before `load_archive` or `prepare` is called: importing takes half a minute and reads the
environment variables that are set here.
"""

from __future__ import annotations

import ctypes
import os
from collections.abc import Sequence
from itertools import islice
from typing import Any

import numpy as np

from talkies_kit import engine
from talkies_kit.asr import Samples, Stretch
from talkies_kit.engine import EngineConfig
from talkies_kit.wire import SAMPLE_RATE, AsrOptions, Segment, Word

SILENCE = Stretch(np.zeros(SAMPLE_RATE, np.float32), AsrOptions(), "")
"""A second of it, to warm up with."""

_OFFLINE = {"HF_HUB_OFFLINE": "1", "TRANSFORMERS_OFFLINE": "1", "HF_DATASETS_OFFLINE": "1", "WANDB_MODE": "disabled"}


def prepare(config: EngineConfig) -> None:
    """Import NeMo with the network off, as many threads as the engine may have, and no chatter in the log."""
    engine.use_utf8()
    os.environ.update(_OFFLINE, OMP_NUM_THREADS=str(config.cpu_threads), NUMBA_NUM_THREADS=str(config.cpu_threads))
    import torch
    from nemo.utils import logging

    torch.set_num_threads(config.cpu_threads)
    logging.setLevel(logging.ERROR)


def load_archive(config: EngineConfig) -> Any:
    """The ASR model of the one .nemo file among the weights, on its device. Raises RuntimeError."""
    name = config.name.removesuffix(".engine")
    archives = sorted(config.weights.glob("*.nemo"))
    if len(archives) != 1:
        raise RuntimeError(f"the weights of {name} must be one .nemo file, not {len(archives)}")
    prepare(config)
    import torch
    from nemo.collections.asr.models import ASRModel

    try:
        model = ASRModel.restore_from(str(archives[0]), map_location=torch.device(config.device)).eval()
    except Exception as error:
        raise RuntimeError(f"{name} cannot load its weights on {config.device}: {sentence(error)}") from None
    give_back_memory()
    return model


def sentence(error: Exception) -> str:
    """What kind of error it is; its message may hold paths, which are no business of who asked for the model."""
    return type(error).__name__


def give_back_memory() -> None:
    """Return to the system what loading has used: the allocator keeps up to twice the weights."""
    ctypes.CDLL(None).malloc_trim(0)


def run(model: Any, batch: Sequence[Stretch], **options: Any) -> list[Any]:
    """NeMo's hypotheses for the batch, in order."""
    audio = [padded(stretch.samples) for stretch in batch]
    return list(model.transcribe(audio, batch_size=len(audio), num_workers=0, verbose=False, **options))


def padded(samples: Samples) -> Samples:
    """At least a second of audio. NeMo would pad shorter audio on both sides, and all times would be late."""
    return np.pad(samples, (0, max(0, SAMPLE_RATE - len(samples))))


def segments(hypothesis: Any, stretch: Stretch) -> list[Segment]:
    """The sentences of a hypothesis with their words; one over all the stretch, without, if it has no times.

    Times are within the stretch and never go back.
    """
    text = hypothesis.text.strip()
    stamps = hypothesis.timestamp if isinstance(hypothesis.timestamp, dict) else {}
    if not text or not stamps.get("segment"):
        return [Segment(0.0, stretch.seconds, text)] if text else []
    words: list[Word] = []
    for stamp in stamps["word"]:
        if not stamp["word"].strip():
            continue
        start = min(max(stamp["start"], words[-1].start if words else 0.0), stretch.seconds)
        words.append(Word(stamp["word"], start, min(max(stamp["end"], start), stretch.seconds)))
    found, rest = [], iter(words)
    for stamp in stamps["segment"]:
        if own := tuple(islice(rest, len(stamp["segment"].split()))):
            found.append(Segment(own[0].start, own[-1].end, stamp["segment"].strip(), own))
    return found
