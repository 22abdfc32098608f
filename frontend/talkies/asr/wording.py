"""What lines of subtitles are made of: words that stay in one piece, and what it costs to cut between two. Pure."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache

from talkies.asr.transcript import TranscriptSegment

_CLAUSE, _JOINED, _ANYWHERE, _LITTLE, _LEAST = 1.0, 2.0, 4.0, 2.0, 0.5
"""What it costs to cut after a comma, before a conjunction, elsewhere, and there after a little word; and at least."""
_PAUSED = 4.0
"""What each second of a pause, up to a half, makes a cut cheaper."""
_FORBIDDEN = 1000.0
_LITTLE_LENGTH = 3
_INITIAL = re.compile(r"(?!I\.$)[^\W\d_](\.[^\W\d_])*\.")
_JOINING = re.compile(
    "and|but|or|nor|so|because|that|which|who|when|while|where|if|than|as|to|of|for|with|from"
    "|und|aber|oder|denn|weil|dass|ob|wenn|als|et|mais|ou|donc|car|que|qui|quand"
    "|y|e|o|pero|porque|cuando|si|ma|mas|perché"
)
"""Words, in the languages of the models, before which a clause may begin."""
_TITLES = re.compile(
    "mr|mrs|ms|mx|dr|st|prof|rev|hon|gen|col|maj|capt|lt|sgt|gov|sen|rep|pres|messrs|mt|ft|no|nr|vs|fig|approx"
    "|hr|fr|bzw|ca|sog|mme|mlle|mm|sr|sra|srta|dra|dña|sig|dott|avv|ing"
)
"""Abbreviations that a name or a number follows, in the languages of the models."""
_STOPS = ".?!\u2026\u3002\uff1f\uff01\uff61"
"""Ends of sentences, also as an ellipsis and in their Chinese and Japanese forms."""
_COMMAS = ",;:\u3001\uff0c\uff1b\uff1a\uff64"
_DASHES = "\u2013\u2014"
_QUOTES = "\"'"
_CLOSING = ")]}\u00bb\u201d\u2019\u300d\u300f\uff09\uff3d\u3011\u3009\u300b"
_OPENING = "([{\u00ab\u201c\u2018\u300c\u300e\uff08\uff3b\u3010\u3008\u300a"
_NOT_FIRST = _STOPS + _COMMAS + _CLOSING + "ーっゃゅょッャュョ々"
"""Characters that begin no line in a script without spaces."""
_UNSPACED = re.compile(
    "[\u0e00-\u0eff\u0f00-\u109f\u1780-\u17ff\u2e80-\u30ff\u31f0-\u4dbf\u4e00-\u9fff\uf900-\ufaff\uff00-\uffef"
    "\U00020000-\U0003ffff]"
)
"""Characters of scripts that are written without spaces, beside which a line may end anywhere."""


@dataclass(frozen=True, slots=True)
class Unit:
    """What no line break is within: a word with its punctuation, and the space before it if there is one."""

    text: str
    start: float
    end: float


@lru_cache(maxsize=4096)
def width(text: str) -> int:
    """Columns that a text takes."""
    return sum(map(_columns, text))


def _columns(character: str) -> int:
    if unicodedata.category(character) in ("Mn", "Me", "Cf"):
        return 0
    return 2 if unicodedata.east_asian_width(character) in "WF" else 1


def units(segment: TranscriptSegment, widest: int) -> list[Unit]:
    """The segment's text in units of at most `widest` columns."""
    glued: list[Unit] = []
    for unit in _words(segment):
        if glued and _is_one(glued[-1].text, unit.text):
            before = glued.pop()
            unit = Unit(before.text + unit.text, before.start, unit.end)
        glued.append(unit)
    return [piece for unit in glued for piece in _pieces(unit, widest)]


def with_names(apart: Sequence[Unit], widest: int) -> list[Unit]:
    """The same, an abbreviation in one unit with the name after it, as far as a line holds both."""
    made: list[Unit] = []
    for unit in apart:
        if made and _is_abbreviation(made[-1].text.strip()) and unit.text.startswith(" "):
            both = Unit(made[-1].text + unit.text, made[-1].start, unit.end)
            if width(both.text.strip()) <= widest:
                made[-1] = both
                continue
        made.append(unit)
    return made


def _words(segment: TranscriptSegment) -> list[Unit]:
    """The segment's words; where it has none, those of its text with times by their widths."""
    written = segment.text.split()
    if "".join(word.word for word in segment.words).split() == written:
        units = [Unit(_spaced(word.word), word.start, word.end) for word in segment.words if word.word.strip()]
    elif len(written) == len(segment.words):
        units = [Unit(f" {text}", word.start, word.end) for text, word in zip(written, segment.words, strict=True)]
    else:
        units = _spread([f" {text}" for text in written], segment.start, segment.end)
    if units and not _UNSPACED.match(units[0].text.lstrip()):  # there is a space between it and the segment before
        units[0] = replace(units[0], text=f" {units[0].text.lstrip()}")
    return units


def _spaced(word: str) -> str:
    """With one space for any number."""
    return (" " if word[0].isspace() else "") + " ".join(word.split())


def _spread(texts: Sequence[str], start: float, end: float) -> list[Unit]:
    sizes = [max(1, width(text)) for text in texts]
    per_column = (end - start) / max(1, sum(sizes))
    units, at = [], start
    for text, size in zip(texts, sizes, strict=True):
        units.append(Unit(text, at, at := min(end, at + size * per_column)))
    return units


def _is_one(before: str, after: str) -> bool:
    """Whether no line may end between the two."""
    if after.startswith(" "):
        return False
    if after[0] in _NOT_FIRST or before[-1] in _OPENING:
        return True
    return not (_UNSPACED.match(before[-1]) or _UNSPACED.match(after[0]))


def _pieces(unit: Unit, widest: int) -> list[Unit]:
    """A unit that fits no line, cut where its script allows it, else anywhere but within a character."""
    if width(unit.text.strip()) <= widest:
        return [unit]
    pieces = [""]
    for character in unit.text.strip():
        begins = _columns(character) and not pieces[-1].endswith("\u200d")
        if begins and width(pieces[-1]) + _columns(character) > widest:
            pieces.append("")
        pieces[-1] += character
    pieces[0] = unit.text[: len(unit.text) - len(unit.text.lstrip())] + pieces[0]
    return _spread(pieces, unit.start, unit.end)


def break_cost(before: Unit, after: Unit) -> float:
    bare = before.text.strip().rstrip(_CLOSING + _QUOTES)
    pause = max(0.0, after.start - before.end)
    if _is_abbreviation(bare):
        return _FORBIDDEN
    following = after.text.strip()
    if bare.endswith(tuple(_STOPS)) and not following[:1].islower():
        return 0.0
    if bare.endswith(tuple(_COMMAS + _DASHES)):
        cost = _CLAUSE
    elif _JOINING.fullmatch(following.lower()):
        cost = _JOINED
    else:
        cost = _ANYWHERE + (_LITTLE if len(bare) <= _LITTLE_LENGTH and not _UNSPACED.search(bare) else 0.0)
    return max(_LEAST, cost - _PAUSED * min(pause, 0.5))


def _is_abbreviation(text: str) -> bool:
    """Whether a full stop at its end ends no sentence: "Mr.", "J.", "z.B.", or "Mr. J."."""
    if not text.endswith("."):
        return False
    bare = text.split(" ")[-1].lstrip(_OPENING + _QUOTES)
    return bool(_TITLES.fullmatch(bare[:-1].lower()) or _INITIAL.fullmatch(bare))
