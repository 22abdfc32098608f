"""A reference clip's files as what the library takes: samples, what is said in them, and in which language."""

from __future__ import annotations

import io
from dataclasses import dataclass

import numpy as np
import soundfile
import soxr
from numpy.typing import NDArray
from talkies_kit.clips import Clip
from talkies_kit.wire import InvalidInput

from .languages import LABELS, code_of

"""Of the speaker encoder and of the codec."""
SHORTEST, LONGEST = 1.0, 60.0
"""Seconds. Longer ones would leave too few places for the speech; 10 to 30 s are best."""
_MAX_BYTES = 64 << 20
_MAX_TEXT = 2000
_MAX_CHANNELS = 8
_PAUSE = 0.5
"""Seconds of silence after a clip with a text, or its last sound runs over into the speech that follows it."""


@dataclass(frozen=True, slots=True)
class Reference:
    """A clip's files as they are now. Raises InvalidInput, which names the voice, where one is of no use."""

    voice: str
    wav: bytes
    text: str
    """Empty when it is not known: then the voice is cloned from its sound alone."""
    language: str
    """ISO 639-1 code or "auto"."""

    @classmethod
    def read(cls, voice: str, clip: Clip, language: str) -> Reference:
        """`language` is the code of one that does not say it."""
        if clip.wav.stat().st_size > _MAX_BYTES:
            raise _useless(voice, f"its file is larger than {_MAX_BYTES >> 20} MiB")
        text = _words(voice, clip.text.read_bytes()) if clip.text else ""
        label = _words(voice, clip.language.read_bytes()) if clip.language else ""
        spoken = code_of(label or language)
        if spoken is None:
            raise _useless(voice, f"its .lang file says {label[:64]!r}, which is none of {', '.join(LABELS.values())}")
        return cls(voice, clip.wav.read_bytes(), text, spoken)

    def samples(self, to: int) -> NDArray[np.float32]:
        """The clip, FP32 mono at `to` Hz. Raises InvalidInput when it is of no use."""
        try:
            with soundfile.SoundFile(io.BytesIO(self.wav)) as sound:
                rate = sound.samplerate
                seconds = sound.frames / rate
                if not SHORTEST <= seconds <= LONGEST:
                    raise _useless(self.voice, f"it is {seconds:.1f} s long, not {SHORTEST:g} to {LONGEST:g} s")
                if sound.channels > _MAX_CHANNELS:
                    raise _useless(self.voice, f"it has {sound.channels} channels")
                samples = sound.read(dtype="float32", always_2d=True).mean(axis=1)
        except soundfile.LibsndfileError:
            raise _useless(self.voice, "it is no WAV file that can be read") from None
        if not np.isfinite(samples).all() or not np.abs(samples).max(initial=0.0) > 1e-4:
            raise _useless(self.voice, "there is nothing to be heard in it")
        if self.text:
            samples = np.pad(samples, (0, int(_PAUSE * rate)))
        return np.asarray(soxr.resample(samples, rate, to), np.float32)


def _words(voice: str, content: bytes) -> str:
    """A text file's content on one line."""
    try:
        text = " ".join(content.decode("utf-8-sig").split())
    except UnicodeDecodeError:
        raise _useless(voice, "its .txt and .lang files must be UTF-8") from None
    if len(text) > _MAX_TEXT:
        raise _useless(voice, f"its .txt file has more than {_MAX_TEXT} characters")
    return text


def _useless(voice: str, why: str) -> InvalidInput:
    return InvalidInput(f"the clip of voice {voice[:64]!r} cannot be used: {why}", "voice")
