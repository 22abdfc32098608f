"""Makes a tiny Qwen3-TTS of random weights; `python make_qwen3_tts.py FOLDER` in the environment `qwen3_tts`.

FOLDER is then a weights folder as `talkies pull` leaves it, in the layout of Qwen/Qwen3-TTS-12Hz-0.6B-Base.
"""

from __future__ import annotations

import json
import sys
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
WIDTH, CODES, QUANTIZERS = 32, 64, 4
"""The real model: 1024, 2048, 16."""
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
LAYER = {
    "hidden_size": WIDTH,
    "intermediate_size": 2 * WIDTH,
    "num_attention_heads": 2,
    "head_dim": 16,
}
ROPE = {"interleaved": True, "mrope_section": [4, 2, 2], "rope_type": "default", "type": "default"}
SAMPLING = {"do_sample": True, "repetition_penalty": 1.05, "temperature": 0.9, "top_p": 1.0, "top_k": 50}
SPEAKER = ("mel_dim", "enc_dim", "enc_channels", "enc_kernel_sizes", "enc_dilations", "enc_attention_channels")
SPEAKER += ("enc_res2net_scale", "enc_se_channels", "sample_rate")


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


def language_model(folder: Path, token: Any) -> None:
    """Text and speaker in, codes out; `token` gives a token's id."""
    talker = {
        **LAYER,
        "vocab_size": CODES + 1024,
        "num_hidden_layers": 2,
        "num_key_value_heads": 1,
        "num_code_groups": QUANTIZERS,
        "text_hidden_size": WIDTH,
        "text_vocab_size": token("user") + 1,
        "max_position_embeddings": 4096,
        "rope_theta": 1_000_000,
        "rope_scaling": ROPE,
        "codec_pad_id": CODES + 100,
        "codec_bos_id": CODES + 101,
        "codec_eos_token_id": CODES + 102,
        "codec_think_id": CODES + 106,
        "codec_nothink_id": CODES + 107,
        "codec_think_bos_id": CODES + 108,
        "codec_think_eos_id": CODES + 109,
        "pad_token_id": None,
        "codec_language_id": {language: CODES + 2 + i for i, language in enumerate(LANGUAGES)},
        "spk_id": {},
        "spk_is_dialect": {},
        "code_predictor_config": {
            **LAYER,
            "vocab_size": CODES,
            "num_hidden_layers": 1,
            "num_key_value_heads": 1,
            "num_code_groups": QUANTIZERS,
            "max_position_embeddings": 4096,
            "max_window_layers": 1,
            "pad_token_id": None,
        },
    }
    speaker = {"mel_dim": 128, "enc_dim": WIDTH, "enc_channels": [32, 32, 32, 32, 96], "enc_attention_channels": 8}
    config = Qwen3TTSConfig(
        talker_config=talker,
        speaker_encoder_config={**speaker, "enc_se_channels": 8},
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
    save(model, config, folder)
    # As in the published file: the speaker's part without what transformers adds, which its class refuses, and the
    # rotary embedding under the names that the library reads.
    written = json.loads((folder / "config.json").read_text())
    written["speaker_encoder_config"] = {name: getattr(config.speaker_encoder_config, name) for name in SPEAKER}
    written["talker_config"] |= {"rope_theta": talker["rope_theta"], "rope_scaling": ROPE}
    write(folder / "config.json", written)
    second = {f"subtalker_{name.replace('_s', 's')}": SAMPLING[name] for name in SAMPLING if "penalty" not in name}
    write(folder / "generation_config.json", {**SAMPLING, **second, "max_new_tokens": 8192})


def codec(folder: Path) -> None:
    """Speech in, codes out, and back, at 12.5 frames of 1920 samples a second."""
    config = Qwen3TTSTokenizerV2Config(
        encoder_config={
            **LAYER,
            "sampling_rate": 24_000,
            "audio_channels": 1,
            "num_filters": 4,
            "num_residual_layers": 1,
            "upsampling_ratios": [8, 6, 5, 4],
            "codebook_size": CODES,
            "codebook_dim": 16,
            "vector_quantization_hidden_dimension": 16,
            "num_quantizers": QUANTIZERS,
            "num_semantic_quantizers": 1,
            "num_hidden_layers": 1,
            "num_key_value_heads": 2,
            "upsample_groups": WIDTH,
            "sliding_window": 250,
            "max_position_embeddings": 8000,
            "use_causal_conv": True,
            "frame_rate": 12.5,
        },
        decoder_config={
            **LAYER,
            "codebook_size": CODES,
            "codebook_dim": WIDTH,
            "latent_dim": WIDTH,
            "num_hidden_layers": 1,
            "num_key_value_heads": 2,
            "num_quantizers": QUANTIZERS,
            "upsample_rates": (8, 5, 4, 3),
            "upsampling_ratios": (2, 2),
            "decoder_dim": WIDTH,
        },
        encoder_valid_num_quantizers=QUANTIZERS,
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
    torch.manual_seed(0)
    language_model(target, tokenizer(target).token_to_id)
    (target / "speech_tokenizer").mkdir()
    codec(target / "speech_tokenizer")
    # Read with the library's own loader, so that a broken one is not kept.
    library.on_cpu(target, 1)
