"""What a WAV file's header says about its length.

FFmpeg trims that to the bytes that are there, and so hides a file that breaks off.
"""

from __future__ import annotations

import struct

from .claims import PLACEHOLDER
from .watched import Watched

_UNKNOWN = 0x7F000000
"""Sizes from here on, and 0, are written by programs that do not know the size yet."""
_MOST_CHUNKS = 100
"""Before the sound; a file of empty ones would be walked for a minute."""


def declared_seconds(file: Watched) -> float | None:
    """The length in seconds; None for what is no plain WAV file, or one whose writer did not know. Rewinds `file`."""
    file.seek(0)
    try:
        return _read(file)
    except struct.error:  # ends within the header
        return None
    finally:
        file.seek(0)


def _read(file: Watched) -> float | None:
    riff, _, kind = struct.unpack("<4sI4s", file.read(12))
    if (riff, kind) != (b"RIFF", b"WAVE"):
        return None
    bytes_per_second = 0
    for _ in range(_MOST_CHUNKS):
        name, size = struct.unpack("<4sI", file.read(8))
        if name == b"data":
            there = file.size() - file.tell()
            is_known = 0 < size < _UNKNOWN and size <= PLACEHOLDER * there
            return size / bytes_per_second if bytes_per_second and is_known else None
        if name == b"fmt ":
            bytes_per_second = struct.unpack_from("<I", file.read(16), 8)[0]
            file.seek(-16, 1)
        file.seek(size + size % 2, 1)
    return None
