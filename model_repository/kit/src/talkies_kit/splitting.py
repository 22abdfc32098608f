"""Cuts text into sentences, and a sentence (or its phonemes) into pieces that a model call can take. Loses nothing."""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from enum import Enum, auto

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


MAX_SENTENCE = 1000
"""Characters; so that text without any full stop is spoken from its start, not after it was read to its end."""

# Emoji and what only modifies them, control characters: nothing that a reader says aloud. The zero-width joiner goes
# only with an emoji, Hindi needs it.
UNSPOKEN = re.compile(
    r"(?:[\u2600-\u27bf\U0001f000-\U0001faff]\u200d?)+|[\ufe0f\u20e3\x00-\x08\x0e-\x1b\x7f\x80-\x84\x86-\x9f]"
)
SPACE = re.compile(r"\s+")
# Too short to stand alone: an abbreviation the segmenter does not know ("M. Dupont"), an initial, a list item's number.
FRAGMENT = re.compile(r"\W*(?:[^\W\d_]{1,3}|\d{1,3})[.)]\s*")
CUTS = ("!.?…।。！？", ":;：；", ",—，、", " ")  # noqa: RUF001 - the full-width ones are meant
"""Where a sentence may be cut, best first; the cut comes after the character."""


def sentences(text: str, segment: Segmenter) -> Iterator[Sentence]:
    """The sentences of `text`, in order; dropped are only emoji, control characters and extra space."""
    lines = (SPACE.sub(" ", line).strip() for line in UNSPOKEN.sub(" ", text).splitlines())
    for filled, paragraph in itertools.groupby(lines, key=bool):
        if filled:
            found = [sentence for line in _unwrapped(paragraph) for sentence in _whole(segment(line))]
            for number, sentence in enumerate(found, 1):
                *parts, last = pieces(sentence, MAX_SENTENCE)
                yield from (Sentence(part, Break.CLAUSE) for part in parts)
                yield Sentence(last, Break.PARAGRAPH if number == len(found) else Break.SENTENCE)


def _unwrapped(lines: Iterable[str]) -> Iterator[str]:
    """Joins a line that goes on in lower case to the one before: an editor wrapped it. Others (a list) stand alone."""
    whole = ""
    for line in lines:
        if whole and not line[0].islower():
            yield whole
            whole = ""
        whole = f"{whole} {line}".lstrip()
    yield whole


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
