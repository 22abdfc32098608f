"""What is transcribed and spoken: recordings from a folder, or the one recording of this project, repeated."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import av
import numpy as np
from numpy.typing import NDArray

from harness import audio

RATE = 16_000
SHORT, LONG = 3.0, 15.0
"""Seconds between which the clips lie."""

SENTENCES = (
    "The harbour was quiet when the first boat came in.",
    "Nobody had expected the weather to change so quickly, and the nets were still wet from the night before.",
    "Two men carried the baskets up the stone steps while a third one counted them aloud.",
    "At the top of the hill a bell rang seven times, and the shutters of the bakery opened.",
    "A child asked whether the fish were asleep, and her grandmother laughed.",
    "By noon the market would be full, the tide would turn, and everything would begin again.",
)
"""About 30 s of speech. Given as sentences, so that the library needs no splitter of its own."""


@dataclass(frozen=True, slots=True)
class Corpus:
    """The recordings of one run."""

    long: Path
    """About eight minutes."""
    clips: tuple[Path, ...]
    """Eight of 3 to 15 s."""
    short: Path
    """About 3 s."""


def corpus(folder: Path | None, looped: Path, work: Path) -> Corpus:
    """The recordings of `folder` (long/*.ogg and librispeech*/ or clips/); without one, `looped` repeated in `work`."""
    if folder is None:
        return _looped(looped, work)
    long = max((folder / "long").glob("*.ogg"), key=seconds)
    found = [path for place in ("librispeech*", "clips") for path in folder.glob(f"{place}/*") if path.is_file()]
    by_length = sorted((path for path in found if SHORT <= seconds(path) <= LONG), key=seconds)
    if len(by_length) < 8:
        raise SystemExit(
            f"{folder} has fewer than eight clips of {SHORT:.0f} to {LONG:.0f} s in librispeech*/ or clips/."
        )
    spread = [by_length[round(i * (len(by_length) - 1) / 7)] for i in range(8)]
    return Corpus(long, tuple(spread), by_length[0])


def seconds(path: Path) -> float:
    """How long a recording is."""
    with av.open(str(path)) as container:
        return (container.duration or 0) / av.time_base


def _looped(path: Path, work: Path) -> Corpus:
    speech = audio.decode(path, RATE)
    pause = np.zeros(RATE, np.int16)
    repeats = int(480 * RATE / (speech.size + pause.size)) + 1
    clips = [_write(work / f"clip{i}.wav", [speech[: int((3 + i) * RATE)]]) for i in range(8)]
    return Corpus(_write(work / "long.wav", [speech, pause] * repeats), tuple(clips), clips[0])


def _write(path: Path, parts: Sequence[NDArray[np.int16]]) -> Path:
    path.write_bytes(audio.encode(np.concatenate(parts), RATE, "wav", "pcm_s16le"))
    return path
