"""The door to the two libraries: faster-qwen3-tts, which runs the model, and qwen-tts below it."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType
from typing import Any

os.environ.update(HF_HUB_OFFLINE="1", HF_HUB_DISABLE_TELEMETRY="1")  # read when the hub's client is imported

import numpy as np
import torch
from numpy.typing import NDArray
from transformers.utils import is_torchaudio_available

POSITIONS = 2048
"""Places in the caches that the CUDA graphs are captured with: prompt, text and speech of a call together."""
FRAME = 1920
"""Samples of 24 kHz."""
CHUNK = 12
"""Frames that are decoded, and heard, together."""
CONTEXT = 25
"""Frames before a chunk that are decoded with it so that it joins, as many as the library's own decoding takes."""


@contextmanager
def _without_torchaudio() -> Iterator[None]:
    """Let a module be imported that imports torchaudio's kaldi and never uses it here.

    Only the codec of 25 Hz needs it, and the package index has torchaudio for CUDA alone, which fails beside a PyTorch
    for the CPU. It goes again afterwards, for nobody else may believe that it is there.
    """
    is_torchaudio_available()  # cached with the true answer
    names = ("torchaudio", "torchaudio.compliance", "torchaudio.compliance.kaldi")
    modules = {name: ModuleType(name) for name in names}
    for name, module in modules.items():
        module.__spec__ = ModuleSpec(name, None)
        module.__path__ = []
        parent, _, child = name.rpartition(".")
        if parent:
            setattr(modules[parent], child, module)
    sys.modules.update(modules)
    try:
        yield
    finally:
        for name in names:
            del sys.modules[name]


with _without_torchaudio():
    from faster_qwen3_tts import FasterQwen3TTS
    from faster_qwen3_tts.streaming import fast_generate_streaming, parity_generate_streaming
    from qwen_tts import Qwen3TTSModel


def on_gpu(folder: Path, device: str) -> Any:
    """The model with its CUDA graphs captured."""
    model = FasterQwen3TTS.from_pretrained(str(folder), device=device, dtype=torch.bfloat16, max_seq_len=POSITIONS)
    model.warmup()
    return model


def on_cpu(folder: Path, threads: int) -> Any:
    """The same model without graphs."""
    torch.set_num_threads(threads)
    # The library waits for the GPU after every chunk, whether or not the model is on one.
    torch.cuda.synchronize = lambda *_: None
    plain = Qwen3TTSModel.from_pretrained(
        str(folder), device_map="cpu", dtype=torch.float32, attn_implementation="sdpa"
    )
    model = FasterQwen3TTS(plain, None, None, device="cpu", dtype=torch.float32, max_seq_len=POSITIONS)
    model._warmed_up = True  # there are no graphs to capture
    return model


@torch.inference_mode()
def stream(
    model: Any, text: str, language: str, prompt: list[Any], *, graphs: bool, **options: Any
) -> Iterator[NDArray[np.float32]]:
    """`text` as samples, a chunk at a time; `options` are those of the library's `generate_voice_clone_streaming`.

    That one decodes the whole clip anew before each of the first chunks, most of the time on a CPU. Here the end of
    the clip is enough, as the end of the speech so far is later on.
    """
    _, talker, config, embeds, mask, trailing, padding, clip = model._prepare_generation(
        text=text, language=language, voice_clone_prompt=prompt
    )
    if graphs:
        generate = fast_generate_streaming
        options |= {"predictor_graph": model.predictor_graph, "talker_graph": model.talker_graph}
    else:
        generate = parity_generate_streaming
    held: Any = None if clip is None else clip[-CONTEXT:]
    for codes, _ in generate(talker, embeds, mask, trailing, padding, config, chunk_size=CHUNK, **options):
        window = codes if held is None else torch.cat([held.to(codes.device), codes])
        (samples,), _ = model.speech_tokenizer.decode({"audio_codes": window[None]})
        yield samples[-len(codes) * FRAME :]
        held = window[-CONTEXT:]
