"""Cuts a window's words into sentences, which are the segments of a transcript and the cues of its subtitles. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from talkies_kit.wire import Segment, Word

_ENDS = (".", "?", "!", "\u2026", "\u3002", "\uff1f", "\uff01")
"""Full stops, also as an ellipsis and in their Chinese and Japanese forms."""
_CLOSING = "\"')]\u201d\u2019\u00bb"
"""Quotes and brackets that may follow them."""
BREATH = 0.1
"""Seconds of pause that make a full stop the end of a sentence, and not of "Mr."."""
PAUSE = 0.8
"""Seconds of pause that end a segment whatever the punctuation."""


def sentences(words: Sequence[Word]) -> list[Segment]:
    """The words as segments, in order; every word is in exactly one."""
    return [Segment(part[0].start, part[-1].end, "".join(w.word for w in part), part) for part in _parts(words)]


def _parts(words: Sequence[Word]) -> Iterator[tuple[Word, ...]]:
    part: list[Word] = []
    for word in words:
        if part and _ends(part[-1], word):
            yield tuple(part)
            part = []
        part.append(word)
    if part:
        yield tuple(part)


def _ends(word: Word, following: Word) -> bool:
    pause = following.start - word.end
    return pause >= PAUSE or (pause >= BREATH and word.word.rstrip(_CLOSING).endswith(_ENDS))
