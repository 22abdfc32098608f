"""What a JSON text costs to parse, told while its bytes come in."""

from __future__ import annotations

import re

from talkies.errors import BadRequest

MAX_STRUCTURE = 64 << 10
"""Bytes outside of strings: no request needs a hundredth of it, and beyond it parsing takes the time of everybody."""

_REST_OF_STRING = re.compile(rb'[^"\\]*+(?:\\.[^"\\]*+)*+', re.DOTALL)


class JsonMeter:
    """Counts the bytes of a JSON text that lie outside of its strings, each string's opening quote too.

    Values, names and nesting all need some of them, while a parser takes what is within a string in one go: where
    they are few, a text of any length is parsed at once.
    """

    def __init__(self) -> None:
        self._in_string = False
        self._escaped = False
        self._structure = 0

    def feed(self, piece: bytes) -> None:
        """Count the next piece; of what is no JSON too. Raises BadRequest beyond MAX_STRUCTURE."""
        place = 0
        if self._escaped and piece:
            self._escaped = False
            place = 1
        while place < len(piece):
            if self._in_string:
                place = _string_end(piece, place)
                if place < len(piece):
                    self._in_string = piece[place] != ord('"')
                    self._escaped = self._in_string  # a backslash is the last byte here
                    place += 1
            else:
                quote = piece.find(b'"', place)
                end = len(piece) if quote < 0 else quote + 1
                self._structure += end - place
                if self._structure > MAX_STRUCTURE:
                    raise BadRequest(
                        f"The JSON has more than {MAX_STRUCTURE} bytes outside of its strings; send fewer values."
                    )
                self._in_string = quote >= 0
                place = end


def _string_end(piece: bytes, place: int) -> int:
    """Where the string ends in which `place` lies: its quote, a backslash at the piece's end, or the piece's end."""
    match = _REST_OF_STRING.match(piece, place)
    return match.end() if match else place
