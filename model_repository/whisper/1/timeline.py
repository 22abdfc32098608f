"""From Whisper's tokens to stretches of text with times. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

PRECISION = 0.02
"""Seconds per timestamp token."""


@dataclass(frozen=True, slots=True)
class Span:
    """Text between two timestamps; times in seconds, 0 <= start <= end."""

    start: float
    end: float
    tokens: tuple[int, ...]
    """Text only."""


def split(tokens: Sequence[int], timestamp_begin: int, eot: int, seconds: float) -> tuple[list[Span], float]:
    """The spans of a window of `seconds` of audio, and up to where the model has heard it.

    No text token is lost: what has no timestamps gets the window's ends. A pair of timestamps at the end means that
    speech goes on after it; anything else, that the whole window was heard.
    """
    spans: list[Span] = []
    text: list[int] = []
    start = 0.0
    for token in tokens:
        if token < eot:
            text.append(token)
        elif token >= timestamp_begin:
            time = min((token - timestamp_begin) * PRECISION, seconds)
            if text:
                spans.append(Span(start, max(start, time), tuple(text)))
                text = []
            start = max(time, spans[-1].end if spans else 0.0)
    if text:
        spans.append(Span(start, seconds, tuple(text)))
    unfinished = spans and len(tokens) >= 2 and min(tokens[-2:]) >= timestamp_begin
    return spans, start if unfinished else seconds
