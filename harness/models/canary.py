"""A tiny Canary as a real .nemo archive, taught what to say of two clips in every language, with and without times."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import bpe
import numpy as np
import torch
from lessons import TRANSCRIPTS, TRANSLATIONS
from nemo.collections.asr.models import EncDecMultiTaskModel
from nemo.collections.common.tokenizers.canary_tokenizer import CanaryTokenizer
from omegaconf import OmegaConf
from parts import ENCODER, PREPROCESSOR, SPEC_AUGMENT, WIDTH

LANGUAGES = ("en", "de", "es", "fr")
MARKS = (
    *("startofcontext", "itn", "noitn", "timestamp", "notimestamp", "diarize", "nodiarize", "spkchange"),
    *("audioseparator", "emo:undefined", "emo:neutral", "emo:happy", "emo:sad", "emo:angry", "unklang", *LANGUAGES),
    *("spltoken0", "spltoken1", "spltoken2", "spltoken3"),
)
STEPS = 300


def make(archive: Path, clips: Sequence[np.ndarray[Any, np.dtype[np.float32]]]) -> float:
    """Write the model that knows the two `clips`, 16 kHz mono; returns the loss it was left with."""
    torch.manual_seed(0)
    with tempfile.TemporaryDirectory() as folder:
        model = EncDecMultiTaskModel(cfg=OmegaConf.create(config(tokenizers(Path(folder)))), trainer=None).eval()
        loss = _teach(model, clips)
        model.save_to(str(archive))
    return loss


def tokenizers(folder: Path, train: Callable[[Path], None] = bpe.train) -> dict[str, Any]:
    """The archive's aggregate of the special tokens and what `train` writes for each language."""
    names = [f"<|{mark}|>" for mark in MARKS] + [f"<|{frame}|>" for frame in range(900)]
    CanaryTokenizer.build_special_tokenizer(names, str(folder / "spl_tokens"))
    for language in LANGUAGES:
        train(folder / language)
    return {
        "dir": None,
        "type": "agg",
        "langs": {name: {"dir": str(folder / name), "type": "bpe"} for name in ("spl_tokens", *LANGUAGES)},
        "custom_tokenizer": {
            "_target_": "nemo.collections.common.tokenizers.canary_tokenizer.CanaryTokenizer",
            "tokenizers": None,
        },
    }


def config(tokenizer: dict[str, Any]) -> dict[str, Any]:
    transformer = "nemo.collections.asr.modules.transformer"
    slots = {
        "decodercontext": "",
        "source_lang": "<|en|>",
        "target_lang": "<|en|>",
        "emotion": "<|emo:undefined|>",
        "pnc": "<|pnc|>",
        "itn": "<|noitn|>",
        "diarize": "<|nodiarize|>",
        "timestamp": "<|notimestamp|>",
    }
    return {
        "sample_rate": 16_000,
        "label_smoothing": 0.0,
        "use_loss_mask_for_prompt": False,
        "log_prediction": False,
        "prompt_format": "canary2",
        "prompt_defaults": [
            {"role": "user", "slots": slots},
            {"role": "user_partial", "slots": {"decodercontext": ""}},
        ],
        "model_defaults": {"asr_enc_hidden": WIDTH, "lm_enc_hidden": WIDTH, "lm_dec_hidden": WIDTH},
        "train_ds": None,
        "validation_ds": None,
        "test_ds": None,
        "tokenizer": tokenizer,
        "preprocessor": {**PREPROCESSOR, "log": True, "pad_value": 0.0},
        "spec_augment": SPEC_AUGMENT,
        "encoder": ENCODER,
        "transf_encoder": {
            "_target_": f"{transformer}.transformer_encoders.TransformerEncoder",
            "num_layers": 0,
            "hidden_size": WIDTH,
            "inner_size": WIDTH * 4,
            "num_attention_heads": 8,
            "ffn_dropout": 0.1,
            "attn_score_dropout": 0.1,
            "attn_layer_dropout": 0.1,
            "mask_future": False,
            "pre_ln": True,
            "pre_ln_final_layer_norm": True,
        },
        "transf_decoder": {
            "_target_": f"{transformer}.get_nemo_transformer",
            "model_name": None,
            "pretrained": False,
            "encoder": None,
            "pre_ln_final_layer_norm": True,
            "config_dict": {
                "max_sequence_length": 1024,
                "num_token_types": 0,
                "embedding_dropout": 0.1,
                "learn_positional_encodings": False,
                "hidden_size": WIDTH,
                "inner_size": WIDTH * 4,
                "num_layers": 1,
                "num_attention_heads": 8,
                "ffn_dropout": 0.1,
                "attn_score_dropout": 0.1,
                "attn_layer_dropout": 0.1,
                "hidden_act": "relu",
                "pre_ln": True,
                "vocab_size": None,
            },
        },
        "head": {
            "_target_": "nemo.collections.asr.parts.submodules.token_classifier.TokenClassifier",
            "num_layers": 1,
            "activation": "relu",
            "log_softmax": True,
            "hidden_size": WIDTH,
            "num_classes": None,
            "dropout": 0.0,
            "use_transformer_init": True,
        },
        "decoding": {
            "strategy": "beam",
            "return_best_hypothesis": True,
            "beam": {"beam_size": 1, "len_pen": 0.0, "max_generation_delta": 50},
        },
        "loss": {
            "_target_": "nemo.collections.common.losses.smoothed_cross_entropy.SmoothedCrossEntropyLoss",
            "label_smoothing": 0.0,
            "pad_id": None,
        },
        "optim": None,
        "target": "nemo.collections.asr.models.aed_multitask_models.EncDecMultiTaskModel",
    }


def _lessons() -> Iterator[tuple[int, str, str, bool, str]]:
    """(clip, source, target, with times, text)."""
    for (clip, language), words in TRANSCRIPTS.items():
        yield clip, language, language, False, " ".join(word for word, _, _ in words)
        yield clip, language, language, True, "".join(f"<|{start}|> {word} <|{end}|>" for word, start, end in words)
    for (clip, source, target), text in TRANSLATIONS.items():
        yield clip, source, target, False, text


def _teach(model: Any, clips: Sequence[np.ndarray[Any, np.dtype[np.float32]]]) -> float:
    """The encoder stays random; the rest learns the lessons by heart in a few seconds."""
    tokenizer = model.tokenizer
    slots = model.prompt.get_default_dialog_slots()[0]["slots"]
    which, texts = [], []
    for clip, source, target, times, text in _lessons():
        asked = {"source_lang": source, "target_lang": target, "pnc": "yes", "timestamp": "yes" if times else "no"}
        prompt = model.prompt.encode_dialog(turns=[{"role": "user", "slots": {**slots, **asked}}])["context_ids"]
        texts.append((prompt.tolist(), [*tokenizer.text_to_ids(text, target), tokenizer.eos_id]))
        which.append(clip)
    longest = max(len(prompt) + len(answer) for prompt, answer in texts)
    ids = torch.full((len(texts), longest), tokenizer.pad_id)
    labels = torch.full((len(texts), longest), -100)
    for i, (prompt, answer) in enumerate(texts):
        end = len(prompt) + len(answer)
        ids[i, :end] = torch.tensor(prompt + answer)
        labels[i, len(prompt) - 1 : end - 1] = torch.tensor(answer)
    takes = [_encoded(model, clips, seed) for seed in range(4)]
    learning = [parameter for name, parameter in model.named_parameters() if not name.startswith("encoder.")]
    for parameter in learning:
        parameter.requires_grad_(True)
    optimizer = torch.optim.Adam(learning, lr=5e-3)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 5e-3, total_steps=STEPS)
    for step in range(STEPS):
        encoded, mask = takes[step % len(takes)]
        hidden = model.transf_decoder(
            input_ids=ids,
            decoder_mask=(ids != tokenizer.pad_id).float(),
            encoder_embeddings=encoded[which],
            encoder_mask=mask[which],
        )
        scores = model.log_softmax(hidden_states=hidden)
        loss = torch.nn.functional.nll_loss(scores.flatten(0, 1), labels.flatten(), ignore_index=-100)
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(learning, 1.0)
        optimizer.step()
        schedule.step()
    return float(loss)


@torch.no_grad()
def _encoded(model: Any, clips: Sequence[np.ndarray[Any, np.dtype[np.float32]]], seed: int) -> tuple[Any, Any]:
    """Both clips as the decoder hears them, with a little noise."""
    noise = np.random.default_rng(seed)
    heard = [
        torch.from_numpy(clip + 1e-4 * seed * noise.standard_normal(clip.size).astype(np.float32)) for clip in clips
    ]
    batch = torch.nn.utils.rnn.pad_sequence(heard, batch_first=True)
    lengths = torch.tensor([len(samples) for samples in heard])
    _, _, encoded, mask = model.forward(input_signal=batch, input_signal_length=lengths)
    return encoded, mask
