"""Canary-Qwen, a language model that hears, as a Triton model."""

from __future__ import annotations

from collections.abc import Hashable, Sequence

from talkies_kit import nemo
from talkies_kit.asr import AsrModel, Hypothesis, Stretch, named_languages, refuse_translation
from talkies_kit.engine import EngineConfig
from talkies_kit.wire import SAMPLE_RATE, Segment

from .loading import load_model

TOKENS_PER_SECOND = 10
"""More than fast speech needs; a bound for when the model does not stop by itself."""
_LANGUAGE = "en"


class TritonPythonModel(AsrModel):
    """Tells what was said but not when: every stretch is one segment."""

    def load(self, config: EngineConfig) -> None:
        self._model = load_model(config)
        self._turn = {"role": "user", "content": f"Transcribe the following: {self._model.audio_locator_tag}"}

    def group(self, stretch: Stretch) -> Hashable:
        refuse_translation(stretch.options)
        named_languages(stretch.options, (_LANGUAGE,))  # or they are refused
        return _LANGUAGE

    def transcribe(self, batch: Sequence[Stretch]) -> Sequence[Hypothesis]:
        import torch
        from transformers import GenerationConfig

        audio = [torch.from_numpy(nemo.padded(stretch.samples)) for stretch in batch]
        longest = max(len(samples) for samples in audio) / SAMPLE_RATE
        generation = GenerationConfig(
            bos_token_id=self._model.text_bos_id,
            eos_token_id=self._model.text_eos_id,
            pad_token_id=self._model.text_pad_id,
            max_new_tokens=16 + int(TOKENS_PER_SECOND * longest),
        )
        with torch.inference_mode():
            answers = self._model.generate(
                prompts=[[dict(self._turn)] for _ in batch],
                audios=torch.nn.utils.rnn.pad_sequence(audio, batch_first=True).to(self._model.device),
                audio_lens=torch.tensor([len(samples) for samples in audio], device=self._model.device),
                generation_config=generation,
            )
        texts = [self._model.tokenizer.ids_to_text(answer.cpu()).strip() for answer in answers]
        return [
            Hypothesis(_LANGUAGE, [Segment(0.0, stretch.seconds, text)] if text else [])
            for stretch, text in zip(batch, texts, strict=True)
        ]
