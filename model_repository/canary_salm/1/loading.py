"""Loads the weights, or says in one sentence why not."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import Any

from talkies_kit import nemo
from talkies_kit.engine import EngineConfig


def load_model(config: EngineConfig) -> Any:
    """The model on its device, on a GPU in bfloat16. Raises RuntimeError."""
    name = config.name.removesuffix(".engine")
    checkpoint = config.weights
    # Without its files the tokenizer would be an empty one, without a word.
    tokenizers = sorted(path.parent for path in checkpoint.glob("*/tokenizer_config.json"))
    if not tokenizers or not (checkpoint / "config.json").is_file() or not any(checkpoint.glob("*.safetensors")):
        raise RuntimeError(f"the weights of {name} need config.json, *.safetensors and the language model's folder")
    nemo.prepare(config)
    import torch
    from nemo.collections.speechlm2.models import SALM

    try:
        with tempfile.TemporaryDirectory() as folder:
            _point_at(tokenizers[0], checkpoint, Path(folder))
            model = SALM.from_pretrained(folder).eval()
        if config.device != "cpu":
            model = model.to(torch.bfloat16)
        model = model.to(config.device)
    except Exception as error:
        raise RuntimeError(f"{name} cannot load its weights on {config.device}: {nemo.sentence(error)}") from None
    nemo.give_back_memory()
    return model


def _point_at(tokenizer: Path, checkpoint: Path, folder: Path) -> None:
    """Make `folder` the checkpoint, but for the language model's name, which is a hub's, put `tokenizer`."""
    for path in checkpoint.glob("*.safetensors"):
        (folder / path.name).symlink_to(path.resolve())
    config = json.loads((checkpoint / "config.json").read_text(encoding="utf-8"))
    config["pretrained_llm"] = str(tokenizer.resolve())
    (folder / "config.json").write_text(json.dumps(config), encoding="utf-8")
