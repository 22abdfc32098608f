"""CTranslate2's Whisper: a batch of windows in, checked tokens out."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import ctranslate2
import numpy as np
from faster_whisper import WhisperModel
from faster_whisper.audio import pad_or_trim
from faster_whisper.tokenizer import Tokenizer
from faster_whisper.transcribe import get_compression_ratio, get_suppressed_tokens
from numpy.typing import NDArray

from .text import Text, better

WINDOW = 30.0
"""Seconds that the encoder takes; a shorter window is padded and costs the same."""
NO_REPEAT = 3
"""Tokens in a row that the second attempt at a window must not repeat. Unlike sampling it gives the same text every
time, and it mends most loops."""
FALLBACK = (0.4, 0.8)
"""Temperatures tried after that while the text still looks wrong. openai-whisper tries five; here a batch waits."""
BEST_OF = 5
"""Texts sampled at a temperature above 0, of which the likeliest counts."""
LENGTH_PENALTY = 1.5
"""Weight of a text's length in the beam search. At 1 the search likes to stop in the middle of many sentences: an
8-minute file in chunks of 28 s had 15.0 % word errors, and has 10.8 % with this; clips are the same."""
_POSITIONS = 50
"""Of the encoder, per second."""
FIRST_TIMESTAMP = 50
"""Latest timestamp token (1 s) that a window may begin with."""
PROMPT_TOKENS = 223
"""Half of Whisper's context less one."""


class Encoded:
    """Windows as the decoder takes them."""

    def __init__(self, storage: Any) -> None:
        self.storage = storage

    def rows(self, indices: Sequence[int]) -> Any:
        """Some of the windows."""
        if list(indices) == list(range(self.storage.shape[0])):
            return self.storage
        return _view(self._host()[list(indices)])

    def stretch(self, row: int, begin: float, end: float) -> Any:
        """The part of a window between two times in seconds, for `languages_of`."""
        return _view(self._host()[[row], round(begin * _POSITIONS) : round(end * _POSITIONS)])

    def _host(self) -> NDArray[np.float32]:
        return np.array(self.storage.to_device(ctranslate2.Device.cpu))


def _view(array: NDArray[np.float32]) -> Any:
    return ctranslate2.StorageView.from_array(np.ascontiguousarray(array))


class Decoder:
    """One loaded model."""

    def __init__(self, model: WhisperModel, beam_size: int) -> None:
        self._model = model
        self._beam_size = beam_size
        self._tokenizers: dict[tuple[str, str], Tokenizer] = {}
        self._suppressed = list(get_suppressed_tokens(self.tokenizer("en", "transcribe"), [-1]))

    @property
    def languages(self) -> list[str]:
        return list(self._model.supported_languages)

    def tokenizer(self, language: str, task: str) -> Tokenizer:
        key = (language, task)
        if key not in self._tokenizers:
            self._tokenizers[key] = Tokenizer(
                self._model.hf_tokenizer, self._model.model.is_multilingual, task=task, language=language
            )
        return self._tokenizers[key]

    def encode(self, windows: Sequence[NDArray[np.float32]]) -> Encoded:
        """Windows of at most 30 s of mono FP32 audio at 16 kHz."""
        features = [pad_or_trim(self._model.feature_extractor(window)[..., :-1]) for window in windows]
        return Encoded(self._model.encode(np.stack(features)))

    def languages_of(self, storage: Any) -> list[dict[str, float]]:
        """Per window the probability of each language."""
        found = self._model.model.detect_language(storage)
        return [{token[2:-2]: probability for token, probability in window} for window in found]

    def decode(
        self,
        encoded: Encoded,
        tokenizers: Sequence[Tokenizer],
        spoken: Sequence[float],
        prompt: str,
        temperature: float,
        *,
        timestamps: bool,
    ) -> list[Text]:
        """The text of each window with so many seconds of speech; `prompt` is what was said before it."""
        before = tokenizers[0].encode(" " + prompt.strip())[-PROMPT_TOKENS:] if prompt.strip() else []
        prompts = [
            self._model.get_prompt(tokenizer, before, without_timestamps=not timestamps) for tokenizer in tokenizers
        ]
        best: list[Text | None] = [None] * len(prompts)
        open_ = list(range(len(prompts)))
        for how in self._attempts(temperature):
            results = self._generate(encoded.rows(open_), [prompts[i] for i in open_], how)
            penalty = how.get("length_penalty", 1.0)
            texts = [self._text(result, penalty, spoken[i]) for i, result in zip(open_, results, strict=True)]
            for i, text in zip(open_, texts, strict=True):
                best[i] = better(best[i], text)
            open_ = [i for i, text in zip(open_, texts, strict=True) if text.doubtful]
            if not open_:
                break
        return [text for text in best if text is not None]

    def _attempts(self, temperature: float) -> list[dict[str, Any]]:
        """How to search for the text, one way after the other until there is no doubt."""
        if temperature:
            return [_sampling(temperature)]
        beam = {"beam_size": self._beam_size, "length_penalty": LENGTH_PENALTY}
        return [beam, {**beam, "no_repeat_ngram_size": NO_REPEAT}, *map(_sampling, FALLBACK)]

    def _generate(self, storage: Any, prompts: list[list[int]], how: dict[str, Any]) -> list[Any]:
        found: list[Any] = self._model.model.generate(
            storage,
            prompts,
            max_length=self._model.max_length,
            return_scores=True,
            return_no_speech_prob=True,
            suppress_tokens=self._suppressed,
            max_initial_timestamp_index=FIRST_TIMESTAMP,
            **how,
        )
        return found

    def _text(self, result: Any, length_penalty: float, spoken: float) -> Text:
        tokens = result.sequences_ids[0]
        text = self.tokenizer("en", "transcribe").decode(tokens).strip()
        return Text(
            tokens=tokens,
            written=text,
            # The score is the sum over len ** length_penalty tokens; openai-whisper's mean counts the end of text too.
            log_probability=result.scores[0] * len(tokens) ** length_penalty / (len(tokens) + 1),
            no_speech=result.no_speech_prob,
            compression=get_compression_ratio(text) if text else 0.0,
            spoken=spoken,
        )


def _sampling(temperature: float) -> dict[str, Any]:
    # With the default sampling_topk of 1 a temperature would change nothing.
    return {"beam_size": 1, "num_hypotheses": BEST_OF, "sampling_topk": 0, "sampling_temperature": temperature}
