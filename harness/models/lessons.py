"""What the tiny models are taught to say of two clips; read by the generators and by the tests."""

from __future__ import annotations

from collections.abc import Sequence

FRAME = 0.08
"""Seconds of one step of the encoders, in which words are timed."""

Words = Sequence[tuple[str, int, int]]
"""What is said, with the frames between which each word is."""

TRANSCRIPTS: dict[tuple[int, str], Words] = {
    (0, "en"): [("hello", 0, 5), ("world.", 6, 11), ("how", 13, 15), ("are", 15, 17), ("you?", 18, 22)],
    (1, "en"): [("the", 1, 3), ("lazy", 4, 9), ("dog.", 10, 17)],
    (0, "de"): [("guten", 0, 9), ("Tag.", 10, 22)],
    (1, "de"): [("wie", 1, 3), ("geht", 4, 9), ("es?", 10, 17)],
    (0, "fr"): [("Bonjour", 0, 22)],
    (1, "fr"): [("le", 1, 3), ("monde!", 4, 17)],
    (0, "es"): [("buenos", 0, 22)],
    (1, "es"): [("dias", 1, 3), ("todos.", 4, 17)],
}
"""(clip, language) -> what Canary hears when it is told the language; Parakeet knows the English ones. In each language
they reach as far as somebody speaks: speech without words would be heard again."""

TRANSLATIONS: dict[tuple[int, str, str], str] = {
    (0, "de", "en"): "hello today.",
    (1, "de", "en"): "how are you?",
    (0, "en", "fr"): "Comment allez-vous?",
    (1, "en", "fr"): "le monde!",
}
"""(clip, source language, target language) -> text."""

DOUBTFUL, INSTEAD = "dog.", "fox."
"""Parakeet is nearly as sure of the second where it hears the first, so that a key phrase decides."""


def text(words: Words) -> str:
    return " ".join(word for word, _, _ in words)
