"""Loads the weights, or says in one sentence why not."""

from __future__ import annotations

from pathlib import Path

import ctranslate2
from faster_whisper import WhisperModel
from talkies_kit.engine import EngineConfig

_FILES = ("model.bin", "config.json", "tokenizer.json")
_VOCABULARIES = ("vocabulary.json", "vocabulary.txt")


def load_model(config: EngineConfig) -> WhisperModel:
    """The model on its device: int8 on a CPU, float16 on a GPU that has it. Raises RuntimeError."""
    folder = _complete(config)
    device, _, index = config.device.partition(":")
    try:
        return WhisperModel(
            str(folder),
            device=device,
            device_index=int(index or 0),
            compute_type="int8" if device == "cpu" else _compute_type(int(index or 0)),
            cpu_threads=config.cpu_threads,
            local_files_only=True,
        )
    except Exception as error:
        raise RuntimeError(f"whisper cannot load its weights on {config.device}: {_sentence(error, folder)}") from None


def _compute_type(index: int) -> str:
    """The fastest that the GPU can and that numpy can hold: before Volta there is no float16, bfloat16 has no array."""
    can = ctranslate2.get_supported_compute_types("cuda", index)
    return next(kind for kind in ("float16", "int8_float32", "float32") if kind in can)


def _complete(config: EngineConfig) -> Path:
    folder = config.weights
    missing = [name for name in _FILES if not (folder / name).is_file()]
    if not any((folder / name).is_file() for name in _VOCABULARIES):
        missing.append(_VOCABULARIES[0])
    if missing:
        raise RuntimeError(f"of the weights of whisper {', '.join(missing)} missing")
    return folder


def _sentence(error: Exception, folder: Path) -> str:
    """The error's first line; it reaches whoever asked for the model, who has no business with paths."""
    return (str(error).splitlines() or [type(error).__name__])[0].replace(f"{folder}/", "")
