"""Cuts a text into what one model call says."""

from __future__ import annotations

from collections.abc import Iterator

from talkies_kit.splitting import Break, Segmenter, pieces, sentences

LIMIT = 200
"""Characters of a call. Whole sentences go together, for their melody is one; another request waits for no more."""


def utterances(text: str, segment: Segmenter) -> Iterator[str | None]:
    """The sentences of a paragraph, together as far as they fit, one that is too long in parts; nothing inaudible.

    None is where there was much text and nothing to say.
    """
    held = ""
    for sentence in sentences(text, segment):
        if sentence is None:
            yield None
            continue
        for part in pieces(sentence.text, LIMIT):
            if len(held) + len(part) >= LIMIT:
                yield from _audible(held)
                held = ""
            held = f"{held} {part}".strip()
        if sentence.end is Break.PARAGRAPH:
            yield from _audible(held)
            held = ""


def _audible(text: str) -> Iterator[str]:
    if any(map(str.isalnum, text)):
        yield text
