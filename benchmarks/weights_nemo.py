"""Random weights of the NeMo engines; `python weights_nemo.py FOLDER SHAPE` in the environment `nemo`.

FOLDER is then a weights folder as `talkies pull` leaves it. The shapes are those of the published models and, with
`-tiny` after the name, the smallest that load. The generators of the tests make them; nothing is taught here.
"""

from __future__ import annotations

import itertools
import random
import sys
import tempfile
from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1] / "harness" / "models"))

import bpe
import canary
import parakeet
import salm
import torch
from nemo.collections.asr.models import EncDecMultiTaskModel, EncDecRNNTBPEModel
from omegaconf import OmegaConf

Changes = Mapping[str, Any]


def _encoder(layers: int, width: int) -> dict[str, Any]:
    return {"n_layers": layers, "d_model": width, "n_heads": 8, "subsampling_conv_channels": 256}


_JOINT = 640
_PARAKEET: Changes = {
    "model_defaults": {"enc_hidden": 1024, "pred_hidden": _JOINT, "joint_hidden": _JOINT},
    "encoder": {**_encoder(24, 1024), "use_bias": False},
    "decoder": {"prednet": {"pred_hidden": _JOINT, "pred_rnn_layers": 2}},
    "joint": {"jointnet": {"joint_hidden": _JOINT}},
}


def _canary(layers: int, width: int) -> Changes:
    hidden = 1024
    return {
        "model_defaults": {"asr_enc_hidden": width, "lm_enc_hidden": hidden, "lm_dec_hidden": hidden},
        "encoder": _encoder(layers, width),
        "transf_encoder": {"hidden_size": hidden, "inner_size": 4 * hidden},
        "transf_decoder": {"config_dict": {"hidden_size": hidden, "inner_size": 4 * hidden, "num_layers": 4}},
        "head": {"hidden_size": hidden},
    }


_QWEN = {
    "vocab_size": 151_936,
    "hidden_size": 2048,
    "intermediate_size": 6144,
    "num_hidden_layers": 28,
    "num_attention_heads": 16,
    "num_key_value_heads": 8,
    "head_dim": 128,
    "max_position_embeddings": 40_960,
    "initializer_range": 0.02,
}
_SALM: Changes = {
    "lora": {"r": 128, "lora_alpha": 256},
    "perception": {
        "output_dim": _QWEN["hidden_size"],
        "modality_adapter": {"d_model": 1024},
        "encoder": _encoder(32, 1024),
    },
}


def _sentences() -> Iterator[str]:
    """Words that nobody says, and enough of them for a tokenizer of thousands of pieces."""
    draw = random.Random(0)  # noqa: S311
    syllables = ["".join(pair) for pair in itertools.product("bcdfghjklmnprstvwz", "aeiou")]
    for _ in range(4000):
        yield " ".join("".join(draw.choices(syllables, k=draw.randint(2, 5))) for _ in range(8)) + "."


def _tokenizer(folder: Path, pieces: int) -> None:
    if pieces:
        bpe.train(folder, [*bpe.SENTENCES, *_sentences()], pieces)
    else:
        bpe.train(folder)


def _make_parakeet(archive: Path, changes: Changes, pieces: int) -> None:
    with tempfile.TemporaryDirectory() as folder:
        _tokenizer(Path(folder) / "bpe", pieces)
        config = OmegaConf.merge(parakeet.config(Path(folder) / "bpe"), changes)
        model = EncDecRNNTBPEModel(cfg=config, trainer=None).eval()
        parakeet.step_by_step(model)
        model.save_to(str(archive))


def _make_canary(archive: Path, changes: Changes, pieces: int) -> None:
    with tempfile.TemporaryDirectory() as folder:
        tokenizers = canary.tokenizers(Path(folder), partial(_tokenizer, pieces=pieces))
        model = EncDecMultiTaskModel(cfg=OmegaConf.merge(canary.config(tokenizers), changes), trainer=None).eval()
        model.save_to(str(archive))


def main(folder: Path, shape: str) -> None:
    torch.manual_seed(0)
    tiny = shape.endswith("-tiny")
    match shape.removesuffix("-tiny"):
        case "parakeet-tdt-0.6b-v3":
            _make_parakeet(folder / "model.nemo", {} if tiny else _PARAKEET, 0 if tiny else 8192)
        case "canary-180m-flash":
            _make_canary(folder / "model.nemo", {} if tiny else _canary(17, 512), 0 if tiny else 1024)
        case "canary-1b-flash":
            _make_canary(folder / "model.nemo", {} if tiny else _canary(32, 1024), 0 if tiny else 1024)
        case "canary-qwen-2.5b" if tiny:
            salm.make(folder)
        case "canary-qwen-2.5b":
            salm.make(folder, _SALM, _QWEN, torch.bfloat16)
        case other:
            raise SystemExit(f"there is no shape {other}")


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2])
