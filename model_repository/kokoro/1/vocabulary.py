"""The phonemes that Kokoro knows."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

SILENT = frozenset(' ;:,.!?—…"()“”ˈˌː↓→↗↘\u0303')
"""Punctuation, stress, length and intonation: a piece made only of these would be spoken as noise."""


class Vocabulary:
    """Kokoro's phonemes and their token numbers."""

    def __init__(self, tokens: Mapping[str, int]) -> None:
        self._tokens = dict(tokens)

    @classmethod
    def read(cls, path: Path) -> Vocabulary:
        """From Kokoro's config.json, or the copy of its `vocab` beside this module."""
        return cls(json.loads(path.read_text(encoding="utf-8"))["vocab"])

    def known(self, phonemes: str) -> str:
        """`phonemes` without those that the model does not know."""
        return "".join(phoneme for phoneme in phonemes if phoneme in self._tokens)

    def tokens(self, phonemes: str) -> list[int]:
        """The token numbers of known phonemes, between the model's start and end token."""
        return [0, *(self._tokens[phoneme] for phoneme in phonemes), 0]


def is_audible(phonemes: str) -> bool:
    """Whether there is anything to say in `phonemes`."""
    return not SILENT.issuperset(phonemes)
