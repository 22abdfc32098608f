"""The parts of a NeMo model's configuration that the tiny models have in common with each other and the real ones."""

from __future__ import annotations

from typing import Any

WIDTH = 32
_ASR = "nemo.collections.asr.modules"

PREPROCESSOR: dict[str, Any] = {
    "_target_": f"{_ASR}.AudioToMelSpectrogramPreprocessor",
    "sample_rate": 16_000,
    "normalize": "per_feature",
    "window_size": 0.025,
    "window_stride": 0.01,
    "window": "hann",
    "features": 128,
    "n_fft": 512,
    "frame_splicing": 1,
    "dither": 1e-05,
    "pad_to": 0,
}
SPEC_AUGMENT: dict[str, Any] = {
    "_target_": f"{_ASR}.SpectrogramAugmentation",
    "freq_masks": 2,
    "time_masks": 10,
    "freq_width": 27,
    "time_width": 0.05,
}
ENCODER: dict[str, Any] = {
    "_target_": f"{_ASR}.ConformerEncoder",
    "feat_in": 128,
    "feat_out": -1,
    "n_layers": 2,
    "d_model": WIDTH,
    "subsampling": "dw_striding",
    "subsampling_factor": 8,
    "subsampling_conv_channels": 16,
    "causal_downsampling": False,
    "reduction": None,
    "reduction_position": None,
    "reduction_factor": 1,
    "ff_expansion_factor": 4,
    "self_attention_model": "rel_pos",
    "n_heads": 4,
    "att_context_size": [-1, -1],
    "xscaling": False,
    "untie_biases": True,
    "pos_emb_max_len": 5000,
    "conv_kernel_size": 9,
    "conv_norm_type": "batch_norm",
    "conv_context_size": None,
    "dropout": 0.1,
    "dropout_pre_encoder": 0.1,
    "dropout_emb": 0.0,
    "dropout_att": 0.1,
}
