"""What a file says about its length, and whether it breaks off before.

A header may be wrong: it was copied from a longer recording, written before the length was known, or counts from
another day. So sound that is there is refused only when the bytes are missing too, and in doubt it is taken.
"""

from __future__ import annotations

from typing import Any

import av
from av.stream import Disposition

_INEXACT = frozenset(
    ["aac", "ac3", "amr", "amrnb", "amrwb", "asf", "dts", "eac3", "flv", "gsm", "loas", "mp3", "mpeg", "mpegts", "wav"]
)
"""Formats whose duration FFmpeg guesses from the number of bytes."""
_COPIED = frozenset(["flac"])
"""Formats that are cut without their header being told."""
_ABSOLUTE = frozenset(["ogg", "matroska"])
"""Formats whose length is where their clock stands at the end, wherever it stood at the beginning."""
PLACEHOLDER = 4.0
"""How many times the bytes that are there a size claims that its writer did not know: who streams a file writes any
large number. A recording that breaks off has lost less."""


def claimed_seconds(container: Any, stream: Any) -> float | None:
    """The length that the file itself says it has, None where it says nothing exact."""
    if set(container.format.name.split(",")) & _INEXACT:
        return None
    if stream.duration is not None and stream.time_base is not None:
        seconds = float(stream.duration * stream.time_base)
    elif container.duration is not None and len(container.streams) == 1:
        seconds = float(container.duration / av.time_base)
    else:
        return None
    if set(container.format.name.split(",")) & _ABSOLUTE and container.start_time:
        seconds -= container.start_time / av.time_base
    rate = stream.codec_context.bit_rate if stream.codec_context.name.startswith("pcm_") else None
    if rate and container.size and seconds > PLACEHOLDER * container.size * 8 / rate:
        return None
    return seconds


def breaks_off(container: Any, claim: float, seconds: float, is_damaged_at_the_end: bool) -> bool:
    """Whether `claim` seconds were to come and the file ended after `seconds`."""
    if set(container.format.name.split(",")) & _COPIED and not is_damaged_at_the_end:
        return False
    return seconds < claim - max(0.5, 0.02 * claim)


def origin(container: Any) -> float | None:
    """The stamp at which the file begins; None for that of its sound, where there is nothing else to be beside of."""
    pictures = [stream for stream in container.streams.video if not stream.disposition & Disposition.attached_pic]
    if not pictures or container.start_time is None:
        return None
    return float(container.start_time / av.time_base)
