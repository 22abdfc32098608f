"""The pieces of words, and how likely each of them is. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from math import log

from talkies_kit.wire import Token, Word

_LEAST = 1e-30
"""Probability of what is rated as impossible; JSON has no minus infinity."""
_SHOWN = (*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1))
_BYTES = {chr(byte): byte for byte in _SHOWN} | {
    chr(256 + i): byte for i, byte in enumerate(sorted({*range(256)} - {*_SHOWN}))
}
"""What the characters of a vocabulary of bytes stand for: those that can be seen stand for themselves."""


def token(piece: str, probability: float) -> Token:
    """A piece as the vocabulary writes it, `Ġask` for " ask"."""
    return Token(bytes(_BYTES[character] for character in piece), log(max(probability, _LEAST)))


def spread(words: Sequence[Word], tokens: Sequence[Token]) -> list[Word]:
    """The words with their tokens, all of them in order: each belongs to the word in which it begins."""
    spread: list[list[Token]] = [[] for _ in words]
    ends: list[int] = []
    for word in words:
        ends.append((ends[-1] if ends else 0) + len(word.word.encode()))
    at = own = 0
    for token in tokens:
        while own < len(words) - 1 and at >= ends[own]:
            own += 1
        spread[own].append(token)
        at += len(token.utf8)
    return [replace(word, tokens=tuple(own)) for word, own in zip(words, spread, strict=True)]
