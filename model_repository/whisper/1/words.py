"""Word times: aligns text with the audio that it was heard in."""

from __future__ import annotations

from collections.abc import Sequence
from math import ceil
from typing import Any

from faster_whisper import WhisperModel
from faster_whisper.tokenizer import Tokenizer
from talkies_kit.wire import Token, Word

from .timeline import Span
from .tokens import token

_FRAMES = 100
"""Feature frames per second."""
_WINDOW = 30.0
_MEDIAN = 7
"""Width of the filter over the attention, faster-whisper's."""
_PREPENDED = "\"'“¿([{-"
_APPENDED = "\"'.。,，!！?？:：”)]}、"  # noqa: RUF001


def align(
    model: WhisperModel,
    tokenizer: Tokenizer,
    storage: Any,
    windows: Sequence[Sequence[Span]],
    seconds: Sequence[float],
) -> list[list[Word]]:
    """Per window its words; windows are of one language and task, and none is without spans.

    faster-whisper mends implausible first words by the end of the segment before, and takes all for one file. So the
    windows are laid one after the other, 30 s apart, and moved back.
    """
    laid: list[list[dict[str, Any]]] = [
        [
            {
                "seek": round(k * _WINDOW * _FRAMES),
                "start": span.start + k * _WINDOW,
                "end": span.end + k * _WINDOW,
                "tokens": list(span.tokens),
            }
            for span in spans
        ]
        for k, spans in enumerate(windows)
    ]
    model.add_word_timestamps(laid, tokenizer, storage, _frames(seconds), _PREPENDED, _APPENDED, 0.0)
    return [
        [
            Word(word["word"], float(word["start"]) - k * _WINDOW, float(word["end"]) - k * _WINDOW)
            for part in parts
            for word in part["words"]
        ]
        for k, parts in enumerate(laid)
    ]


def rate(
    model: WhisperModel,
    tokenizer: Tokenizer,
    storage: Any,
    windows: Sequence[Sequence[Span]],
    seconds: Sequence[float],
) -> list[list[Token]]:
    """As `align`, per window its tokens: how likely each is after those before it, without the prompt.

    The alignment above was given the same by CTranslate2, and has kept no more of it than a mean for each word.
    """
    texts = [[token for span in spans for token in span.tokens] for spans in windows]
    results = model.model.align(storage, tokenizer.sot_sequence, texts, _frames(seconds), median_filter_width=_MEDIAN)
    piece = tokenizer.tokenizer.id_to_token
    return [
        [token(piece(id_), probability) for id_, probability in zip(ids, result.text_token_probs, strict=True)]
        for ids, result in zip(texts, results, strict=True)
    ]


def _frames(seconds: Sequence[float]) -> list[int]:
    return [min(ceil(s * _FRAMES), round(_WINDOW * _FRAMES)) for s in seconds]
