"""Parakeet TDT as a Triton model."""

from __future__ import annotations

from collections.abc import Hashable, Sequence

from talkies_kit import looks, nemo
from talkies_kit.asr import AsrModel, Hypothesis, Stretch, refuse_translation
from talkies_kit.engine import EngineConfig

from .phrases import phrases

BOOST = 1.0
"""Weight of the key phrases beside the model's own scores."""


class TritonPythonModel(AsrModel):
    """Finds the language by itself, tells times of words, and listens for the phrases of the prompt."""

    def load(self, config: EngineConfig) -> None:
        self._model = nemo.load_archive(config)
        self._phrases: tuple[str, ...] | None = None
        self.transcribe([nemo.SILENCE])

    def group(self, stretch: Stretch) -> Hashable:
        refuse_translation(stretch.options)
        return phrases(stretch.options.prompt)

    def transcribe(self, batch: Sequence[Stretch]) -> Sequence[Hypothesis]:
        self._listen_for(phrases(batch[0].options.prompt))
        return looks.heard(batch, self._decode)

    def _decode(self, batch: Sequence[Stretch]) -> list[Hypothesis]:
        hypotheses = nemo.run(self._model, batch, timestamps=True)
        # The model does not say which of its languages it heard.
        return [
            Hypothesis(stretch.options.language, nemo.segments(hypothesis, stretch))
            for stretch, hypothesis in zip(batch, hypotheses, strict=True)
        ]

    def _listen_for(self, wanted: tuple[str, ...]) -> None:
        """Let the decoder prefer these phrases. Makes a new decoder, so only when they are others than before."""
        if wanted == self._phrases:
            return
        from omegaconf import open_dict

        self._phrases = None  # until the new decoder is there
        decoding = self._model.cfg.decoding.copy()
        with open_dict(decoding):
            decoding.compute_timestamps = True
            decoding.greedy.boosting_tree = {"key_phrases_list": list(wanted)} if wanted else None
            decoding.greedy.boosting_tree_alpha = BOOST if wanted else 0.0
        self._model.change_decoding_strategy(decoding, verbose=False)
        self._phrases = wanted
