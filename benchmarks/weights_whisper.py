"""Random weights of a Whisper; `python weights_whisper.py FOLDER SHAPE VOCABULARY_FOLDER` in the environment `whisper`.

FOLDER is then a weights folder as `talkies pull` leaves it, in CTranslate2's format with float16 weights. The tokenizer
and the vocabulary are those of the pulled whisper-base, which lacks one language token of large-v3.
"""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path
from typing import Any

import numpy as np
from ctranslate2.specs import whisper_spec
from numpy.typing import NDArray

SHAPES = {
    "whisper-base": (512, 6, 6, 8, 80),
    "whisper-large-v3": (1280, 32, 32, 20, 128),
    "whisper-large-v3-turbo": (1280, 32, 4, 20, 128),
    "tiny": (64, 2, 2, 2, 80),
}
"""Width, layers of the encoder and of the decoder, heads, mel bands."""
POSITIONS, WINDOW = 448, 1500
"""Longest text in tokens; frames of the encoder."""

_random = np.random.default_rng(0)


def main(folder: Path, shape: str, vocabulary: Path) -> None:
    width, encoder_layers, decoder_layers, heads, mels = SHAPES["tiny" if shape.endswith("-tiny") else shape]
    tokens = (vocabulary / "vocabulary.txt").read_text(encoding="utf-8").split("\n")[:-1]
    spec = whisper_spec.WhisperSpec(encoder_layers, heads, decoder_layers, heads)
    encoder, decoder = spec.encoder, spec.decoder
    _linear(encoder.conv1, width, mels, 3)
    _linear(encoder.conv2, width, width, 3)
    encoder.position_encodings.encodings = _weights(WINDOW, width)
    decoder.embeddings.weight = _weights(len(tokens), width)
    decoder.position_encodings.encodings = _weights(POSITIONS, width)
    decoder.projection.weight = decoder.embeddings.weight
    for part in (encoder, decoder):
        _norm(part.layer_norm, width)
        for layer in part.layer:
            _attention(layer.self_attention, width, (3 * width,))
            if part is decoder:
                _attention(layer.attention, width, (width, 2 * width))
            _norm(layer.ffn.layer_norm, width)
            _linear(layer.ffn.linear_0, 4 * width, width)
            _linear(layer.ffn.linear_1, width, 4 * width)
    spec.register_vocabulary(tokens)
    base = json.loads((vocabulary / "config.json").read_text())
    for name in ("suppress_ids", "suppress_ids_begin", "lang_ids"):
        setattr(spec.config, name, base[name])
    spec.config.alignment_heads = [[decoder_layers - 1, head] for head in range(heads)]
    spec.validate()
    spec.optimize(quantization="float16")
    spec.save(str(folder))
    shutil.copy(vocabulary / "tokenizer.json", folder)
    features = {"feature_size": mels, "sampling_rate": 16_000, "hop_length": 160, "chunk_length": 30, "n_fft": 400}
    (folder / "preprocessor_config.json").write_text(json.dumps(features))


def _weights(*shape: int) -> NDArray[np.float32]:
    drawn: NDArray[np.float32] = _random.standard_normal(shape, dtype=np.float32)
    drawn *= 0.02
    return drawn


def _linear(layer: Any, *shape: int) -> None:
    layer.weight, layer.bias = _weights(*shape), np.zeros(shape[0], np.float32)


def _norm(layer: Any, width: int) -> None:
    layer.gamma, layer.beta = np.ones(width, np.float32), np.zeros(width, np.float32)


def _attention(layer: Any, width: int, inputs: tuple[int, ...]) -> None:
    _norm(layer.layer_norm, width)
    for linear, rows in zip(layer.linear, (*inputs, width), strict=True):
        _linear(linear, rows, width)


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2], Path(sys.argv[3]))
