"""Canary, which transcribes and translates between its languages, as a Triton model."""

from __future__ import annotations

from collections.abc import Sequence

from talkies_kit import looks, nemo
from talkies_kit.asr import AsrModel, Hypothesis, Stretch, known_language, named_languages
from talkies_kit.engine import EngineConfig

DEFAULT = "en"
"""The language of speech that nobody named, as the model's own prompt has it, and what is translated into."""
_NO_LANGUAGE = "spl_tokens"


class TritonPythonModel(AsrModel):
    """One prompt per batch: both languages and whether times are wanted."""

    def load(self, config: EngineConfig) -> None:
        self._model = nemo.load_archive(config)
        self._languages = set(self._model.tokenizer.tokenizers_dict) - {_NO_LANGUAGE}
        self.transcribe([nemo.SILENCE])

    def group(self, stretch: Stretch) -> tuple[str, str, bool]:
        options = stretch.options
        source, *_ = named_languages(options, self._languages) or (DEFAULT,)
        target = source
        if options.task == "translate":
            target = known_language(options.target_language or DEFAULT, self._languages, "target_language")
        # Words of a translation were not spoken at any time.
        return source, target, source == target and not options.text_only

    def transcribe(self, batch: Sequence[Stretch]) -> Sequence[Hypothesis]:
        return looks.heard(batch, self._decode)

    def _decode(self, batch: Sequence[Stretch]) -> list[Hypothesis]:
        source, target, timed = self.group(batch[0])
        hypotheses = nemo.run(
            self._model, batch, source_lang=source, target_lang=target, pnc="yes", timestamps=timed or None
        )
        return [
            Hypothesis(source, nemo.segments(hypothesis, stretch))
            for stretch, hypothesis in zip(batch, hypotheses, strict=True)
        ]
