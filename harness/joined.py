"""Recordings one after the other, as one file."""

from __future__ import annotations

import random
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from harness import audio

RATE = 16_000
Clip = tuple[Path, str, str]
"""A recording, its language and its text: see `harness.words.transcripts`."""


def join(clips: Sequence[Clip], pauses: Sequence[float]) -> bytes:
    """The clips one after the other, each but the first after a pause in seconds."""
    parts = []
    for (path, _, _), pause in zip(clips, [0.0, *pauses], strict=True):
        parts += [np.zeros(round(pause * RATE), np.int16), audio.decode(path)]
    return audio.encode(np.concatenate(parts), RATE, "flac", "flac")


def sets(files: Sequence[Clip], seed: int, count: int) -> list[tuple[list[str], bytes]]:
    """(sentences, file) of two or three clips with pauses of up to 2 s, 10 to 29 s long."""
    chance = random.Random(seed)
    made: list[tuple[list[str], bytes]] = []
    while len(made) < count:
        clips = chance.sample(files, chance.choice([2, 2, 2, 3]))
        pauses = [chance.uniform(0, 2) for _ in clips[1:]]
        if 10 <= sum(_seconds(path) for path, _, _ in clips) + sum(pauses) <= 29:
            made.append(([text for _, _, text in clips], join(clips, pauses)))
    return made


def repeated(files: Sequence[Clip], seed: int, count: int) -> list[tuple[list[str], bytes]]:
    """(sentences, file) of one clip said two to eight times over, with pauses of up to 1 s, up to 29 s long."""
    chance = random.Random(seed)
    short = [file for file in files if _seconds(file[0]) < 13]
    made = []
    for clip in chance.sample(short, count):
        times = chance.randint(2, min(8, int(29 / (_seconds(clip[0]) + 1))))
        made.append(([clip[2]] * times, join([clip] * times, [chance.uniform(0, 1) for _ in range(times - 1)])))
    return made


def _seconds(path: Path) -> float:
    return len(audio.decode(path)) / RATE
