"""Which stretch of a window is in which language. Pure."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from talkies_kit.coverage import FRAME

BEYOND_DOUBT = 0.97
"""Probability of one language over all of a window from which on it has no other."""
SURE = 0.9
"""Probability from which on a stretch is in another language than its file."""
LEAST = 3.0
"""Seconds of speech that tell a language."""
PAUSE = 0.3
"""Seconds of silence in which a language may change."""


@dataclass(frozen=True, slots=True)
class Part:
    """A part of a window in one language; times in seconds."""

    start: float
    end: float
    speech: float
    language: str


def among(likely: Mapping[str, float], languages: Collection[str]) -> dict[str, float]:
    """The probabilities of some `languages`, as if there were no others; all as they are where none is named."""
    if not languages:
        return dict(likely)
    of_these = {language: likely.get(language, 0.0) for language in languages}  # an older model knows fewer
    total = sum(of_these.values())
    return {language: p / total if total else 1 / len(of_these) for language, p in of_these.items()}


def stretches(speech: NDArray[np.bool_]) -> list[tuple[int, int]]:
    """Frames [from, to) from pause to pause, with LEAST of speech in each, the last one apart; none without speech."""
    spoken = np.flatnonzero(speech)
    if not len(spoken):
        return []
    found: list[tuple[int, int]] = []
    begin = before = int(spoken[0])
    count = 0
    for frame in map(int, spoken):
        if (frame - before) * FRAME > PAUSE and count * FRAME >= LEAST:
            found.append((begin, before + 1))
            begin, count = frame, 0
        count += 1
        before = frame
    found.append((begin, before + 1))
    return found


def parts(
    speech: NDArray[np.bool_],
    found: Sequence[tuple[int, int]],
    probabilities: Sequence[Mapping[str, float]],
    main: str,
) -> list[Part]:
    """The window in parts that touch, each in another language than the one before; `main` where nothing is sure.

    `probabilities` are those of the languages of each of the `found` stretches.
    """
    languages: list[str] = []
    for (begin, end), likely in zip(found, probabilities, strict=True):
        own = max(likely, key=lambda language: likely[language])
        is_sure = likely[own] >= SURE and np.count_nonzero(speech[begin:end]) * FRAME >= LEAST
        languages.append(own if is_sure else (languages[-1] if languages else main))
    cuts = [0]
    spoken = [languages[0] if languages else main]
    for before, now, language in zip(found, found[1:], languages[1:], strict=False):
        if language != spoken[-1]:
            cuts.append((before[1] + now[0]) // 2)
            spoken.append(language)
    ends = [*cuts[1:], len(speech)]
    return [
        Part(begin * FRAME, end * FRAME, float(np.count_nonzero(speech[begin:end])) * FRAME, language)
        for begin, end, language in zip(cuts, ends, spoken, strict=True)
    ]
