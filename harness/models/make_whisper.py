"""Makes a tiny Whisper that says a text, whatever it hears.

`python make_whisper.py FOLDER WEIGHTS TEXT` in the environment `whisper`: FOLDER is then a weights folder as
`talkies pull` leaves it, in CTranslate2's format with float16 weights. WEIGHTS is a Whisper whose vocabulary it takes,
which for large-v3 lacks one language; TEXT is a file.
"""

from __future__ import annotations

import json
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from ctranslate2.specs import whisper_spec
from numpy.typing import NDArray
from tokenizers import Tokenizer

POSITIONS, WINDOW = 448, 1500
"""Longest text in tokens; frames of the encoder."""
_PROMPT = 4
"""Tokens before the text: start, language, task, no timestamps."""
_LOUD = 20.0
"""How far a position's token is above the others."""

_random = np.random.default_rng(0)


@dataclass(frozen=True)
class Shape:
    width: int
    encoder_layers: int
    decoder_layers: int
    heads: int
    mels: int


TINY = Shape(64, 1, 1, 2, 128)
"""With the mel bands of large-v3."""


def build(folder: Path, weights: Path, shape: Shape, text: str | None) -> None:
    """Write a Whisper of random weights; one with a `text` says that and nothing else."""
    width, heads = shape.width, shape.heads
    tokens = (weights / "vocabulary.txt").read_text(encoding="utf-8").split("\n")[:-1]
    spec = whisper_spec.WhisperSpec(shape.encoder_layers, heads, shape.decoder_layers, heads)
    encoder, decoder = spec.encoder, spec.decoder
    _linear(encoder.conv1, width, shape.mels, 3)
    _linear(encoder.conv2, width, width, 3)
    encoder.position_encodings.encodings = _weights(WINDOW, width)
    decoder.embeddings.weight = decoder.projection.weight = _weights(len(tokens), width)
    decoder.position_encodings.encodings = _weights(POSITIONS, width)
    for part in (encoder, decoder):
        _norm(part.layer_norm, width)
        for layer in part.layer:
            _attention(layer.self_attention, width, (3 * width,))
            if part is decoder:
                _attention(layer.attention, width, (width, 2 * width))
            _norm(layer.ffn.layer_norm, width)
            _linear(layer.ffn.linear_0, 4 * width, width)
            _linear(layer.ffn.linear_1, width, 4 * width)
    if text is not None:
        _recite(decoder, Tokenizer.from_file(str(weights / "tokenizer.json")), text)
    spec.register_vocabulary(tokens)
    base = json.loads((weights / "config.json").read_text())
    for name in ("suppress_ids", "suppress_ids_begin", "lang_ids"):
        setattr(spec.config, name, base[name])
    spec.config.alignment_heads = [[shape.decoder_layers - 1, head] for head in range(heads)]
    spec.validate()
    spec.optimize(quantization="float16")
    spec.save(str(folder))
    shutil.copy(weights / "tokenizer.json", folder)
    features = {
        "feature_size": shape.mels,
        "sampling_rate": 16_000,
        "hop_length": 160,
        "chunk_length": 30,
        "n_fft": 400,
    }
    (folder / "preprocessor_config.json").write_text(json.dumps(features))


def _recite(decoder: Any, tokenizer: Tokenizer, text: str) -> None:
    """Let the decoder's layers add nothing, so that what it says depends on the position alone."""
    said = tokenizer.encode(text, add_special_tokens=False).ids
    said += [tokenizer.token_to_id("<|endoftext|>")] * POSITIONS
    embeddings = decoder.embeddings.weight
    embeddings /= np.linalg.norm(embeddings, axis=1, keepdims=True)
    positions = [embeddings[said[max(0, place - _PROMPT + 1)]] * _LOUD for place in range(POSITIONS)]
    decoder.position_encodings.encodings = np.array(positions)
    for layer in decoder.layer:
        for last in (layer.self_attention.linear[-1], layer.attention.linear[-1], layer.ffn.linear_1):
            last.weight *= 0


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
    build(Path(sys.argv[1]), Path(sys.argv[2]), TINY, Path(sys.argv[3]).read_text(encoding="utf-8"))
