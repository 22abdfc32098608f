"""Makes a Qwen3-TTS of random weights; `python make_qwen3_tts.py FOLDER [real]` in the environment `qwen3_tts`.

FOLDER is then a weights folder as `talkies pull` leaves it, in the layout of Qwen/Qwen3-TTS-12Hz-0.6B-Base: a tiny one,
or with `real` one of that model's shape.
"""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[2] / "model_repository" / "qwen3_tts" / "1"))

import library
import soundfile
import torch
from qwen_tts.core.models import Qwen3TTSConfig, Qwen3TTSForConditionalGeneration
from qwen_tts.core.tokenizer_12hz.configuration_qwen3_tts_tokenizer_v2 import Qwen3TTSTokenizerV2Config
from qwen_tts.core.tokenizer_12hz.modeling_qwen3_tts_tokenizer_v2 import Qwen3TTSTokenizerV2Model
from safetensors.torch import save_file
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers
from transformers import EncodecFeatureExtractor

CLIPS = Path(library.__file__).parents[1] / "voices"
SPECIALS = ("<|endoftext|>", "<|im_start|>", "<|im_end|>", "<tts_pad>", "<tts_text_bos>", "<tts_text_eod>")
LANGUAGES = [
    "chinese",
    "english",
    "german",
    "italian",
    "portuguese",
    "spanish",
    "japanese",
    "korean",
    "french",
    "russian",
]


@dataclass(frozen=True)
class Shape:
    """What a tiny model and a real one differ in."""

    codes: int
    quantizers: int
    sections: list[int]
    talker: dict[str, Any]
    predictor: dict[str, Any]
    speaker: dict[str, Any]
    encoder: dict[str, Any]
    decoder: dict[str, Any]
    dtype: torch.dtype = torch.float32


_TINY_LAYER = {"hidden_size": 32, "intermediate_size": 64, "num_attention_heads": 2, "head_dim": 16}
TINY = Shape(
    codes=64,
    quantizers=4,
    sections=[4, 2, 2],
    talker={**_TINY_LAYER, "num_hidden_layers": 2, "num_key_value_heads": 1, "text_hidden_size": 32},
    predictor={**_TINY_LAYER, "num_hidden_layers": 1, "num_key_value_heads": 1, "max_window_layers": 1},
    speaker={
        "enc_dim": 32,
        "enc_channels": [32, 32, 32, 32, 96],
        "enc_attention_channels": 8,
        "enc_se_channels": 8,
    },
    encoder={
        **_TINY_LAYER,
        "num_filters": 4,
        "codebook_dim": 16,
        "vector_quantization_hidden_dimension": 16,
        "num_quantizers": 4,
        "num_hidden_layers": 1,
        "num_key_value_heads": 2,
        "upsample_groups": 32,
    },
    decoder={
        **_TINY_LAYER,
        "codebook_dim": 32,
        "latent_dim": 32,
        "num_hidden_layers": 1,
        "num_key_value_heads": 2,
        "decoder_dim": 32,
    },
)
_REAL_LAYER = {
    "hidden_size": 1024,
    "intermediate_size": 3072,
    "num_attention_heads": 16,
    "num_key_value_heads": 8,
    "head_dim": 128,
}
REAL = Shape(
    codes=2048,
    quantizers=16,
    sections=[24, 20, 20],
    talker={**_REAL_LAYER, "num_hidden_layers": 28, "text_hidden_size": 2048, "text_vocab_size": 151_936},
    predictor={**_REAL_LAYER, "num_hidden_layers": 5},
    speaker={
        "enc_dim": 1024,
        "enc_channels": [512, 512, 512, 512, 1536],
        "enc_attention_channels": 128,
        "enc_se_channels": 128,
    },
    encoder={
        "hidden_size": 512,
        "intermediate_size": 2048,
        "num_attention_heads": 8,
        "num_key_value_heads": 8,
        "head_dim": 64,
        "num_filters": 64,
        "codebook_dim": 256,
        "vector_quantization_hidden_dimension": 256,
        "num_quantizers": 32,
        "num_hidden_layers": 8,
        "upsample_groups": 512,
    },
    decoder={
        "hidden_size": 512,
        "intermediate_size": 1024,
        "num_attention_heads": 16,
        "num_key_value_heads": 16,
        "head_dim": 64,
        "codebook_dim": 512,
        "latent_dim": 1024,
        "num_hidden_layers": 8,
        "decoder_dim": 1536,
    },
    dtype=torch.bfloat16,
)
SAMPLING = {"do_sample": True, "repetition_penalty": 1.05, "temperature": 0.9, "top_p": 1.0, "top_k": 50}
SPEAKER = (
    *("mel_dim", "enc_dim", "enc_channels", "enc_kernel_sizes", "enc_dilations", "enc_attention_channels"),
    *("enc_res2net_scale", "enc_se_channels", "sample_rate"),
)


def tokenizer(folder: Path) -> Tokenizer:
    """Bytes as tokens, and the special ones."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    made = Tokenizer(models.BPE(vocab={char: i for i, char in enumerate(alphabet)}, merges=[]))
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = decoders.ByteLevel()
    made.add_special_tokens([AddedToken(token, special=True, normalized=False) for token in SPECIALS])
    # The library cuts off "<|im_start|>assistant\n" as three tokens.
    made.add_tokens([AddedToken(word, normalized=False) for word in ("assistant", "user")])
    made.save(str(folder / "tokenizer.json"))
    names = {
        "tokenizer_class": "Qwen2Tokenizer",
        "processor_class": "Qwen3TTSProcessor",
        "eos_token": "<|im_end|>",
        "pad_token": "<|endoftext|>",
        "unk_token": None,
        "bos_token": None,
        "add_prefix_space": False,
        "model_max_length": 131072,
        "clean_up_tokenization_spaces": False,
    }
    write(folder / "tokenizer_config.json", names)
    write(folder / "vocab.json", made.get_vocab())
    (folder / "merges.txt").write_text("#version: 0.2\n")
    return made


def language_model(folder: Path, token: Any, shape: Shape) -> None:
    """Text and speaker in, codes out; `token` gives a token's id."""
    rope = {"interleaved": True, "mrope_section": shape.sections, "rope_type": "default", "type": "default"}
    talker = {
        "text_vocab_size": token("user") + 1,
        **shape.talker,
        "vocab_size": shape.codes + 1024,
        "num_code_groups": shape.quantizers,
        "max_position_embeddings": 4096,
        "rope_theta": 1_000_000,
        "rope_scaling": rope,
        "codec_pad_id": shape.codes + 100,
        "codec_bos_id": shape.codes + 101,
        "codec_eos_token_id": shape.codes + 102,
        "codec_think_id": shape.codes + 106,
        "codec_nothink_id": shape.codes + 107,
        "codec_think_bos_id": shape.codes + 108,
        "codec_think_eos_id": shape.codes + 109,
        "pad_token_id": None,
        "codec_language_id": {language: shape.codes + 2 + i for i, language in enumerate(LANGUAGES)},
        "spk_id": {},
        "spk_is_dialect": {},
        "code_predictor_config": {
            **shape.predictor,
            "vocab_size": shape.codes,
            "num_code_groups": shape.quantizers,
            "max_position_embeddings": 4096,
            "pad_token_id": None,
        },
    }
    config = Qwen3TTSConfig(
        talker_config=talker,
        speaker_encoder_config={"mel_dim": 128, **shape.speaker},
        tokenizer_type="qwen3_tts_tokenizer_12hz",
        tts_model_size="0b6",
        tts_model_type="base",
        im_start_token_id=token("<|im_start|>"),
        im_end_token_id=token("<|im_end|>"),
        tts_pad_token_id=token("<tts_pad>"),
        tts_bos_token_id=token("<tts_text_bos>"),
        tts_eos_token_id=token("<tts_text_eod>"),
        architectures=["Qwen3TTSForConditionalGeneration"],
    )
    model = Qwen3TTSForConditionalGeneration(config).eval()
    with torch.no_grad():
        spread(model)
        # Chance hears much the same in every speaker; that is taken off, so that it matters who speaks.
        clips = [soundfile.read(clip, dtype="float32")[0] for clip in sorted(CLIPS.glob("*.wav"))]
        heard = [model.extract_speaker_embedding(clip, 24_000) for clip in clips]
        model.speaker_encoder.fc.bias -= torch.stack(heard).mean(0)
    save(model.to(shape.dtype), config, folder)
    # As in the published file: the speaker's part without what transformers adds, which its class refuses, and the
    # rotary embedding under the names that the library reads.
    written = json.loads((folder / "config.json").read_text())
    written["speaker_encoder_config"] = {name: getattr(config.speaker_encoder_config, name) for name in SPEAKER}
    written["talker_config"] |= {"rope_theta": talker["rope_theta"], "rope_scaling": rope}
    write(folder / "config.json", written)
    second = {f"subtalker_{name.replace('_s', 's')}": SAMPLING[name] for name in SAMPLING if "penalty" not in name}
    write(folder / "generation_config.json", {**SAMPLING, **second, "max_new_tokens": 8192})


def codec(folder: Path, shape: Shape) -> None:
    """Speech in, codes out, and back, at 12.5 frames of 1920 samples a second."""
    config = Qwen3TTSTokenizerV2Config(
        encoder_config={
            **shape.encoder,
            "sampling_rate": 24_000,
            "audio_channels": 1,
            "num_residual_layers": 1,
            "upsampling_ratios": [8, 6, 5, 4],
            "codebook_size": shape.codes,
            "num_semantic_quantizers": 1,
            "sliding_window": 250,
            "max_position_embeddings": 8000,
            "use_causal_conv": True,
            "frame_rate": 12.5,
        },
        decoder_config={
            **shape.decoder,
            "codebook_size": shape.codes,
            "num_quantizers": shape.quantizers,
            "upsample_rates": (8, 5, 4, 3),
            "upsampling_ratios": (2, 2),
        },
        encoder_valid_num_quantizers=shape.quantizers,
        architectures=["Qwen3TTSTokenizerV2Model"],
    )
    model = Qwen3TTSTokenizerV2Model(config).eval()
    with torch.no_grad():
        for name, tensor in [*model.named_parameters(), *model.named_buffers()]:
            if name.endswith(("embedding_sum", "embed_sum")):
                tensor.normal_()  # the codebooks, zeros until they are trained
            elif name.endswith("cluster_usage"):
                tensor.fill_(1.0)
        spread(model.decoder)  # or the speech is too quiet to be told from silence
    save(model, config, folder)
    EncodecFeatureExtractor(feature_size=1, sampling_rate=24_000, padding_value=0.0).save_pretrained(folder)


def spread(module: Any) -> None:
    """Weights with which a signal goes through the layers without fading."""
    for name, tensor in module.named_parameters():
        if tensor.ndim >= 2 and "codebook" not in name:
            tensor.normal_(std=tensor[0].numel() ** -0.5)
        elif name.endswith("scale"):
            tensor.fill_(0.5)


def save(model: Any, config: Any, folder: Path) -> None:
    """What `save_pretrained` does, which fails on this model with the pinned transformers."""
    config.to_json_file(folder / "config.json", use_diff=True)
    tensors = {name: tensor.detach().clone().contiguous() for name, tensor in model.state_dict().items()}
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})


def write(path: Path, content: object) -> None:
    path.write_text(json.dumps(content, indent=1))


if __name__ == "__main__":
    target = Path(sys.argv[1])
    shape = REAL if sys.argv[2:] == ["real"] else TINY
    torch.manual_seed(0)
    language_model(target, tokenizer(target).token_to_id, shape)
    (target / "speech_tokenizer").mkdir()
    codec(target / "speech_tokenizer", shape)
    # Read with the library's own loader, so that a broken one is not kept.
    library.on_cpu(target, 1)
