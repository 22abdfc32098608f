"""Kokoro's voices: one style vector per length of the phoneme string, in files that the folder `voices` holds."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from talkies_kit.wire import InvalidInput

LANGUAGES = {"a": "en-us", "b": "en-gb", "e": "es", "f": "fr", "h": "hi", "i": "it", "p": "pt-br"}
"""A voice's language by the first letter of its name. Japanese (j) and Chinese (z) voices are left out: no G2P here."""
ALIASES = {"en": "en-us", "pt": "pt-br"}
MAX_PHONEMES = 510
STYLE = 256

Style = NDArray[np.float32]
"""FP32[510, 256]: the style of n phonemes is row n - 1."""


def read_raw(path: Path) -> NDArray[np.float32]:
    """The numbers of a `.bin` file."""
    return np.fromfile(path, np.float32)


class Voices:
    """The voices of a folder, read when first used and kept."""

    def __init__(
        self, folder: Path, suffix: str = ".bin", read: Callable[[Path], NDArray[np.float32]] = read_raw
    ) -> None:
        files = sorted(folder.glob(f"*{suffix}"))
        self._files = {path.stem: path for path in files if path.stem[:1] in LANGUAGES}
        self._style = cache(lambda path: _shaped(path, read(path)))

    def names(self) -> list[str]:
        return list(self._files)

    def style(self, name: str) -> Style:
        """The voice called `name`; a name is looked up, never made into a path. Raises InvalidInput."""
        if name not in self._files:
            raise InvalidInput(f"unknown voice {name[:64]!r}; the voices are {', '.join(self._files)}", "voice")
        return self._style(self._files[name])


def _shaped(path: Path, numbers: NDArray[np.float32]) -> Style:
    if numbers.size != MAX_PHONEMES * STYLE:
        raise RuntimeError(f"{path.name} is no voice: {numbers.size} numbers instead of {MAX_PHONEMES}x1x{STYLE}")
    return numbers.reshape(MAX_PHONEMES, STYLE)


def language_of(voice: str, asked: str) -> str:
    """What to speak: `asked` (a code with or without region, in any case), or the voice's own language if it is empty.

    `voice` is a known voice. Raises InvalidInput for a language that Kokoro does not speak here.
    """
    own = LANGUAGES[voice[0]]
    code = asked.lower().replace("_", "-")
    if code in ("", own.partition("-")[0]):
        return own
    for candidate in (code, code.partition("-")[0]):
        if (language := ALIASES.get(candidate, candidate)) in LANGUAGES.values():
            return language
    raise InvalidInput(f"kokoro does not speak {asked[:64]!r}; it speaks {', '.join(LANGUAGES.values())}", "language")
