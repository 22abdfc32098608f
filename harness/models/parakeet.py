"""A tiny Parakeet TDT as a real .nemo archive, taught what to say of two clips."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import bpe
import numpy as np
import torch
from lessons import DOUBTFUL, INSTEAD, TRANSCRIPTS
from nemo.collections.asr.models import EncDecRNNTBPEModel
from omegaconf import OmegaConf
from parts import ENCODER, PREPROCESSOR, SPEC_AUGMENT, WIDTH

DURATIONS = [0, 1, 2, 3, 4]
HIDDEN = 128
STEPS = 1500


def make(archive: Path, clips: Sequence[np.ndarray[Any, np.dtype[np.float32]]]) -> None:
    """Write the model that knows the two `clips`, 16 kHz mono."""
    torch.manual_seed(0)
    with tempfile.TemporaryDirectory() as folder:
        bpe.train(Path(folder) / "bpe")
        model = EncDecRNNTBPEModel(cfg=OmegaConf.create(config(Path(folder) / "bpe")), trainer=None).eval()
        _teach(model, clips)
        model.save_to(str(archive))


def config(tokenizer: Path) -> dict[str, Any]:
    dataset = {"manifest_filepath": None, "sample_rate": 16_000, "batch_size": 4, "shuffle": False, "num_workers": 0}
    return {
        "sample_rate": 16_000,
        "compute_eval_loss": False,
        "log_prediction": False,
        "rnnt_reduction": "mean_volume",
        "skip_nan_grad": False,
        "model_defaults": {
            "enc_hidden": WIDTH,
            "pred_hidden": HIDDEN,
            "joint_hidden": HIDDEN,
            "tdt_durations": DURATIONS,
            "num_tdt_durations": len(DURATIONS),
        },
        "train_ds": None,
        "test_ds": None,
        "validation_ds": {**dataset, "use_start_end_token": False, "pin_memory": False},
        "tokenizer": {"dir": str(tokenizer), "type": "bpe"},
        "preprocessor": PREPROCESSOR,
        "spec_augment": SPEC_AUGMENT,
        "encoder": ENCODER,
        "decoder": {
            "_target_": "nemo.collections.asr.modules.RNNTDecoder",
            "normalization_mode": None,
            "random_state_sampling": False,
            "blank_as_pad": True,
            "prednet": {"pred_hidden": HIDDEN, "pred_rnn_layers": 1, "t_max": None, "dropout": 0.2},
        },
        "joint": {
            "_target_": "nemo.collections.asr.modules.RNNTJoint",
            "log_softmax": None,
            "preserve_memory": False,
            "fuse_loss_wer": True,
            "fused_batch_size": 4,
            "num_extra_outputs": len(DURATIONS),
            "jointnet": {"joint_hidden": HIDDEN, "activation": "relu", "dropout": 0.2},
        },
        "decoding": {
            "strategy": "greedy_batch",
            "model_type": "tdt",
            "durations": DURATIONS,
            "greedy": {"max_symbols": 10},
            "beam": {"beam_size": 2, "return_best_hypothesis": False, "score_norm": True},
        },
        "loss": {
            "loss_name": "tdt",
            "tdt_kwargs": {"fastemit_lambda": 0.0, "durations": DURATIONS, "sigma": 0.02, "omega": 0.1},
        },
        "optim": None,
        "target": "nemo.collections.asr.models.rnnt_bpe_models.EncDecRNNTBPEModel",
    }


def _teach(model: Any, clips: Sequence[np.ndarray[Any, np.dtype[np.float32]]]) -> None:
    """The encoder stays random, and what was said has no say; the joint learns which piece goes with which frame."""
    heard = [torch.from_numpy(clip) for clip in clips]
    with torch.no_grad():
        encoded, lengths = model.forward(
            input_signal=torch.nn.utils.rnn.pad_sequence(heard, batch_first=True),
            input_signal_length=torch.tensor([len(samples) for samples in heard]),
        )
        model.joint.pred.weight.zero_()
        model.joint.pred.bias.zero_()
    pieces = model.tokenizer.vocab_size
    wanted = torch.zeros(len(clips), encoded.shape[2], pieces + 1)
    wanted[:, :, pieces] = 1.0  # blank
    for clip in range(len(clips)):
        frame = 0
        for word, start, _ in TRANSCRIPTS[clip, "en"]:
            frame = _place(wanted[clip], max(frame, start), _choices(model.tokenizer, word))
    learning = [*model.joint.enc.parameters(), *model.joint.joint_net.parameters()]
    for parameter in learning:
        parameter.requires_grad_(True)
    optimizer = torch.optim.Adam(learning, lr=5e-3)
    within = torch.arange(encoded.shape[2]) < lengths[:, None]
    for _ in range(STEPS):
        scores = model.joint.joint_net(model.joint.enc(encoded.transpose(1, 2)))[:, :, : pieces + 1]
        loss = torch.nn.functional.cross_entropy(scores[within], wanted[within])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    step_by_step(model)


@torch.no_grad()
def step_by_step(model: Any) -> None:
    """Let every step of the decoder take one frame."""
    durations = model.tokenizer.vocab_size + 1  # after the pieces and the blank
    last = model.joint.joint_net[-1]
    last.weight[durations:] = 0.0
    last.bias[durations:] = torch.tensor([0.0, 9.0, 0.0, 0.0, 0.0])


def _choices(tokenizer: Any, word: str) -> list[list[int]]:
    return [tokenizer.text_to_ids(choice) for choice in ([DOUBTFUL, INSTEAD] if word == DOUBTFUL else [word])]


def _place(wanted: torch.Tensor, frame: int, choices: list[list[int]]) -> int:
    """Write a word's pieces, one a frame, the first of two choices a little more likely; returns the next frame."""
    blank = wanted.shape[1] - 1
    longest = max(len(ids) for ids in choices)
    shares = [1.0] if len(choices) == 1 else [0.55, 0.45]
    for i in range(longest):
        wanted[frame + i] = 0.0
        for ids, share in zip(choices, shares, strict=True):
            wanted[frame + i, ids[i] if i < len(ids) else blank] += share
    return frame + longest
