"""Cuts text into sentences, and a sentence (or its phonemes) into pieces that a model call can take. Loses nothing."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from enum import Enum, auto

from talkies_kit.reading import is_spoken, readable, windows

Segmenter = Callable[[str], Iterable[str]]
"""Cuts one line into sentences; concatenated they are the line again."""


class Break(Enum):
    """What follows a stretch of text; decides the pause."""

    CLAUSE = auto()
    SENTENCE = auto()
    PARAGRAPH = auto()


@dataclass(frozen=True, slots=True)
class Sentence:
    """A sentence on one line, or a part of one that is too long."""

    text: str
    end: Break


MAX_LINE = 4000
"""Characters after which a line is cut into sentences although it goes on."""
MAX_SENTENCE = 1000
"""Characters; so that text without any full stop is spoken from its start, not after it was read to its end."""

# Too short to stand alone: an abbreviation the segmenter does not know ("M. Dupont"), an initial, a list item's number.
FRAGMENT = re.compile(r"\W*(?:[^\W\d_]{1,3}|\d{1,3})[.)]\s*")
CUTS = ("!.?…।。！？", ":;：；", ",—，、", " ")  # noqa: RUF001 - the full-width ones are meant
"""Where a sentence may be cut, best first; the cut comes after the character."""


def sentences(text: str, segment: Segmenter) -> Iterator[Sentence | None]:
    """The sentences of `text`, in order, as `readable` makes them; those that nobody could say are left out.

    Each is little work, however long and whatever the text is: None comes where there was some and no sentence.
    """
    held: str | None = None
    quiet = False
    for found in _found(text, segment):
        if found is _WINDOW:
            if quiet:
                yield None
            quiet = True
            continue
        if held is not None:
            *parts, last = pieces(held, MAX_SENTENCE)
            yield from (Sentence(part, Break.CLAUSE) for part in parts)
            yield Sentence(last, Break.PARAGRAPH if found is _PARAGRAPH else Break.SENTENCE)
            quiet = False
        held = found if isinstance(found, str) else None


class _Mark(Enum):
    """What is found between sentences."""

    WINDOW = auto()
    PARAGRAPH = auto()


_WINDOW, _PARAGRAPH = _Mark.WINDOW, _Mark.PARAGRAPH


def _found(text: str, segment: Segmenter) -> Iterator[str | _Mark]:
    """Sentences, the starts of windows of the text, and the ends of paragraphs (the last one's too)."""
    line = ""
    breaks = 0
    for window in windows(text):
        yield _WINDOW
        for number, part in enumerate(readable(window).split("\n")):
            breaks += number > 0
            if breaks and not (part := part.lstrip()):
                continue
            if breaks == 1 and part[0].islower():  # an editor wrapped the line; others (a list) stand alone
                line += " "
            elif breaks:
                yield from _spoken(line, segment)
                line = ""
                if breaks > 1:
                    yield _PARAGRAPH
            line += part
            breaks = 0
            if len(line) > MAX_LINE:
                *settled, rest = _whole(segment(line))
                yield from filter(is_spoken, settled)
                line = f"{rest} " if line[-1].isspace() else rest
                if len(line) > MAX_LINE:
                    yield from filter(is_spoken, [line.strip()])
                    line = ""
    yield from _spoken(line, segment)
    yield _PARAGRAPH


def _spoken(line: str, segment: Segmenter) -> Iterator[str]:
    """The sentences of a whole line that anybody could say."""
    return filter(is_spoken, _whole(segment(line.strip())) if line.strip() else ())


def _whole(found: Iterable[str]) -> Iterator[str]:
    """Joins fragments to the sentence that follows."""
    whole = ""
    for sentence in found:
        whole += sentence
        if not FRAGMENT.fullmatch(whole):
            yield whole.strip()
            whole = ""
    if whole:
        yield whole.strip()


def pieces(text: str, limit: int) -> Iterator[str]:
    """`text` in pieces of at most `limit` characters, about equally long, cut at punctuation or else at a space.

    The pieces concatenated are `text` again.
    """
    while len(text) > limit:
        cut = _cut(text, limit)
        yield text[:cut]
        text = text[cut:]
    if text:
        yield text


def _cut(text: str, limit: int) -> int:
    """Where the first piece ends: near an equal share of the whole, at the best kind of place there is."""
    share = math.ceil(len(text) / math.ceil(len(text) / limit))
    places = range(share // 2 + 1, limit + 1)
    for kind in CUTS:
        if found := [place for place in places if text[place - 1] in kind]:
            return min(found, key=lambda place: abs(place - share))
    return share
