"""Canary, which transcribes and translates between its languages, as a Triton model."""

from __future__ import annotations

from collections.abc import Hashable, Sequence

import numpy as np
from talkies_kit import nemo
from talkies_kit.asr import AsrModel, Speech, Transcript
from talkies_kit.engine import EngineConfig
from talkies_kit.wire import SAMPLE_RATE, AsrOptions, InvalidInput

DEFAULT = "en"
"""The language of speech that nobody named, as the model's own prompt has it, and what is translated into."""
_NO_LANGUAGE = "spl_tokens"


class TritonPythonModel(AsrModel):
    """One prompt per batch: both languages and whether times are wanted."""

    def load(self, config: EngineConfig) -> None:
        self._model = nemo.load_archive(config)
        self._languages = sorted(set(self._model.tokenizer.tokenizers_dict) - {_NO_LANGUAGE})
        self.transcribe([Speech(np.zeros(SAMPLE_RATE, np.float32), AsrOptions(), "")])

    def group(self, speech: Speech) -> Hashable:
        options = speech.options
        source = self._known(options.language or DEFAULT, "language")
        target = source
        if options.task == "translate":
            target = self._known(options.target_language or DEFAULT, "target_language")
        # Words of a translation were not spoken at any time.
        return source, target, source == target and not options.text_only

    def transcribe(self, batch: Sequence[Speech]) -> Sequence[Transcript]:
        source, target, timed = self.group(batch[0])
        hypotheses = nemo.run(
            self._model, batch, source_lang=source, target_lang=target, pnc="yes", timestamps=timed or None
        )
        return [
            Transcript(source, nemo.segments(hypothesis, speech))
            for speech, hypothesis in zip(batch, hypotheses, strict=True)
        ]

    def _known(self, language: str, param: str) -> str:
        code = language.lower().partition("-")[0]
        if code not in self._languages:
            known = ", ".join(self._languages)
            raise InvalidInput(f"{param} {language!r} is not one that this model knows: {known}", param)
        return code
