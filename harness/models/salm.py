"""A tiny Canary-Qwen of random weights, with the language model's folder inside, as `talkies pull` leaves it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

import torch
from nemo.collections.speechlm2.models import SALM
from omegaconf import OmegaConf
from parts import ENCODER, PREPROCESSOR, SPEC_AUGMENT, WIDTH
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import Qwen3Config

LLM = "Qwen3-1.7B"
SPECIAL = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")
SENTENCES = [
    "Transcribe the following: hello world",
    "the quick brown fox jumps over the lazy dog.",
    "system user assistant You are a helpful assistant. 0 1 2 3 4 5 6 7 8 9",
] * 4


def make(
    checkpoint: Path,
    changes: Mapping[str, Any] = MappingProxyType({}),
    language_model: Mapping[str, Any] = MappingProxyType({}),
    dtype: torch.dtype = torch.float32,
) -> None:
    """`changes` of the model's configuration and `language_model` of its Qwen3's give it another shape."""
    torch.manual_seed(0)
    _language_model(checkpoint / LLM, language_model)
    config = OmegaConf.merge(_config(checkpoint / LLM), dict(changes))
    model = SALM(OmegaConf.to_container(config)).eval()
    with torch.no_grad():
        model.embed_tokens.weight.normal_(std=1.0)
        # It says nothing but plain words, so no special token that would end it.
        for token, name in enumerate(
            model.tokenizer.tokenizer.convert_ids_to_tokens(range(len(model.embed_tokens.weight)))
        ):
            if not name or not name.removeprefix("Ġ").isalpha() or not name.removeprefix("Ġ").isascii():
                model.embed_tokens.weight[token] = 0.0
    model.to(dtype).save_pretrained(str(checkpoint))
    # The real checkpoint names the language model as the hub does, so nobody may find it by that name.
    config = json.loads((checkpoint / "config.json").read_text())
    config["pretrained_llm"] = f"Qwen/{LLM}"
    (checkpoint / "config.json").write_text(json.dumps(config))


def _language_model(folder: Path, changes: Mapping[str, Any]) -> None:
    """Tokenizer and configuration of a Qwen3, without weights."""
    folder.mkdir(parents=True)
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    tokenizer.train_from_iterator(
        SENTENCES, trainers.BpeTrainer(vocab_size=400, show_progress=False, initial_alphabet=alphabet)
    )
    tokenizer.model.save(str(folder))
    ids = {name: tokenizer.get_vocab_size() + i for i, name in enumerate(SPECIAL)}
    flags = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": True}
    data = json.loads(tokenizer.to_str())
    data["added_tokens"] = [{"id": i, "content": name, **flags} for name, i in ids.items()]
    (folder / "tokenizer.json").write_text(json.dumps(data, ensure_ascii=False), encoding="utf-8")
    # Written by hand: what transformers 5 saves, transformers 4 does not read.
    settings = {
        "tokenizer_class": "Qwen2Tokenizer",
        "add_prefix_space": False,
        "bos_token": None,
        "eos_token": "<|im_end|>",
        "pad_token": "<|endoftext|>",
        "unk_token": None,
        "model_max_length": 131_072,
        "additional_special_tokens": ["<|im_start|>", "<|im_end|>"],
        "added_tokens_decoder": {str(i): {"content": name, **flags} for name, i in ids.items()},
    }
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))
    shape = {
        "vocab_size": 512,
        "hidden_size": WIDTH,
        "intermediate_size": 2 * WIDTH,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "head_dim": 8,
        "max_position_embeddings": 4096,
        "initializer_range": 0.5,  # far from nothing, so that what it hears and has said has a say
        **changes,
    }
    Qwen3Config(
        **shape,
        tie_word_embeddings=True,
        architectures=["Qwen3ForCausalLM"],
        bos_token_id=ids["<|endoftext|>"],
        eos_token_id=ids["<|im_end|>"],
    ).save_pretrained(str(folder))


def _config(language_model: Path) -> dict[str, Any]:
    modules = "nemo.collections.speechlm2.modules.perception"
    return {
        "audio_locator_tag": "<|audioplaceholder|>",
        "prompt_format": "qwen",
        "pretrained_llm": str(language_model),
        "pretrained_asr": "nvidia/canary-1b-flash",  # not looked for while pretrained_weights is false
        "pretrained_weights": False,
        "torch_dtype": "bfloat16",
        "freeze_params": ["^llm\\..+$", "^embed_tokens\\..+$"],
        "prevent_freeze_params": [],
        "lora": {
            "task_type": "CAUSAL_LM",
            "r": 4,
            "lora_alpha": 8,
            "lora_dropout": 0.01,
            "target_modules": ["q_proj", "v_proj"],
        },
        "perception": {
            "target": f"{modules}.AudioPerceptionModule",
            "output_dim": WIDTH,
            "modality_adapter": {"_target_": f"{modules}.IdentityConnector", "d_model": WIDTH},
            "spec_augment": SPEC_AUGMENT,
            "preprocessor": {**PREPROCESSOR, "log": True, "pad_value": 0.0},
            "encoder": ENCODER,
        },
        "optimizer": {"_target_": "torch.optim.AdamW", "lr": 5e-4},
    }
