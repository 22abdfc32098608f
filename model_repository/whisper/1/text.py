"""What a window was decoded to, and how far to trust it. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from talkies_kit.coverage import FASTEST

REPETITIVE = 2.4
UNLIKELY = -1.0
SILENT = 0.6
"""openai-whisper's thresholds of the compression ratio, the mean log probability and the no-speech probability."""
SURE = -0.25
"""Mean log probability above which a text that could have been said and repeats itself was said so: a refrain, somebody
who counts. Where clips of LibriSpeech were said two to five times over it was -0.18 to -0.07, and mending such a text
cost words every time; where the model ran in circles it was -0.4 and less, or the text was too long to be said."""


@dataclass(frozen=True, slots=True)
class Text:
    """The tokens of a window, timestamps included."""

    tokens: Sequence[int]
    written: str
    """Without timestamps."""
    log_probability: float
    no_speech: float
    compression: float
    spoken: float
    """Seconds of speech in the window."""

    @property
    def runs_in_circles(self) -> bool:
        """Whether it repeats what was said once."""
        is_said = self.log_probability > SURE and len(self.written) <= FASTEST * self.spoken
        return self.compression > REPETITIVE and not is_said

    @property
    def doubtful(self) -> bool:
        """To be tried again in another way."""
        return (self.runs_in_circles or self.log_probability < UNLIKELY) and not self.silent

    @property
    def silent(self) -> bool:
        """Not speech, whatever the text says. Noise makes the model repeat itself, and be sure of it."""
        return self.no_speech > SILENT and (self.log_probability < UNLIKELY or self.runs_in_circles)


def better(one: Text | None, other: Text) -> Text:
    """The later one if it is fine, else the likelier of those that do not run in circles."""
    if one is None or not other.doubtful:
        return other
    return max(one, other, key=lambda text: (not text.runs_in_circles, text.log_probability))
