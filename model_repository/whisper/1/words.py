"""Word times: aligns text with the audio that it was heard in."""

from __future__ import annotations

from collections.abc import Sequence
from math import ceil
from typing import Any

from faster_whisper import WhisperModel
from faster_whisper.tokenizer import Tokenizer
from talkies_kit.wire import Word

from .timeline import Span

_FRAMES = 100
"""Feature frames per second."""
_WINDOW = 30.0
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
    frames = [min(ceil(s * _FRAMES), round(_WINDOW * _FRAMES)) for s in seconds]
    model.add_word_timestamps(laid, tokenizer, storage, frames, _PREPENDED, _APPENDED, 0.0)
    return [
        [
            Word(word["word"], float(word["start"]) - k * _WINDOW, float(word["end"]) - k * _WINDOW)
            for part in parts
            for word in part["words"]
        ]
        for k, parts in enumerate(laid)
    ]
