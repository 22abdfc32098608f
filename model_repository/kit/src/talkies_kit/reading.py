"""Makes of any text one that can be read aloud, a window at a time: whatever it is, a window is little work."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator

WINDOW = 4000
"""Characters that are looked at in one go."""
MARKS = 5
"""Combining marks that a letter may have; Tibetan needs as many. Thousands take a phonemizer minutes."""
RUN = 16
"""Characters in a row that are neither letters, digits nor line breaks: beyond, it is a rule or a row of dots."""

# Emoji and what only modifies them, control characters: nothing that a reader says aloud. The zero-width joiner goes
# only with an emoji, Hindi needs it.
UNSPOKEN = re.compile(
    r"(?:[\u2600-\u27bf\U0001f000-\U0001faff]\u200d?)+|[\ufe0f\u20e3\x00-\x08\x0e-\x1b\x7f\x80-\x84\x86-\x9f]"
)
# What stands within words without being seen: soft hyphens, zero-width spaces, directions, fillers, tags.
_INVISIBLE = re.compile(
    r"[\u00ad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180f\u200b\u200e\u200f\u202a-\u202e\u2060-\u206f\u3164"
    r"\ufe00-\ufe0e\ufeff\uffa0\ufff9-\ufffb\U000e0000-\U000e0fff]"
)
_LINE_BREAK = re.compile(r"\r\n|[\r\v\f\x1c-\x1e\x85\u2028\u2029]")
_SPACE = re.compile(r"[^\S\n]+")
_BLANK_LINES = re.compile(r"\n\s*\n")


def _marks() -> str:
    """All combining marks, and the joiners between them, as the inside of a character class."""
    ranges: list[list[int]] = []
    for code in range(0x300, 0x20000):
        if unicodedata.category(chr(code))[0] == "M":
            if ranges and ranges[-1][1] == code - 1:
                ranges[-1][1] = code
            else:
                ranges.append([code, code])
    return "".join(f"\\U{first:08x}-\\U{last:08x}" for first, last in ranges) + "\\u200c\\u200d"


_MARKED = re.compile(f"([{_marks()}]{{{MARKS}}})[{_marks()}]+")
_UNREAD = re.compile(rf"((?:[^\w\n]|_){{{RUN}}})(?:[^\w\n]|_)+")


def readable(window: str) -> str:
    """`window` in NFC, without what cannot be seen or heard, and without endless rows of marks and punctuation.

    Line breaks are "\\n", blank lines at most one in a row, other space is single.
    """
    text = _LINE_BREAK.sub("\n", UNSPOKEN.sub(" ", _INVISIBLE.sub("", window)))
    # First the marks: putting them in order, as NFC does, takes the square of their number.
    text = unicodedata.normalize("NFC", _MARKED.sub(r"\1", text))
    return _BLANK_LINES.sub("\n\n", _SPACE.sub(" ", _UNREAD.sub(r"\1 ", text)))


def windows(text: str) -> Iterator[str]:
    """`text` in stretches of at most WINDOW characters, cut behind a line or a word where there is one.

    The stretches concatenated are `text` again.
    """
    start = 0
    while len(text) - start > WINDOW:
        middle, end = start + WINDOW // 2, start + WINDOW
        cut = text.rfind("\n", middle, end) + 1 or text.rfind(" ", middle, end) + 1 or end
        yield text[start:cut]
        start = cut
    if start < len(text):
        yield text[start:]


def is_spoken(text: str) -> bool:
    """Whether there is anything in it that a reader says: letters, digits, or signs such as % and €."""
    return any(char.isalnum() or char in "%&@#" or unicodedata.category(char)[0] == "S" for char in text)
