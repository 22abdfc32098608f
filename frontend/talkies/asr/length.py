"""Whether a recording is short, as far as its first and last bytes tell: parsing all of it is the first step's work."""

from __future__ import annotations

import os
import struct
from pathlib import Path
from typing import BinaryIO

SHORT_SECONDS = 60.0
"""Recordings up to this long go first: two chunks or so, while somebody waits for a dictation or a voice message."""
_HEAD = 64
_TAIL = 64 << 10
"""An Ogg page, the longest there is, begins in there."""
_SLOWEST = 2000
"""Bytes a second of formats that do not tell cheaply: 16 kbit/s; those that speech is sent in seldom have less."""
_OPUS_RATE = 48_000


def is_short(path: Path) -> bool:
    """Whether the file lasts at most SHORT_SECONDS: by its header (WAV, FLAC), by its last page (Ogg with Opus or
    Vorbis), otherwise by its bytes. Raises OSError."""
    with path.open("rb") as file:
        size = os.fstat(file.fileno()).st_size
        seconds = _seconds(file, size)
    return (size / _SLOWEST if seconds is None else seconds) <= SHORT_SECONDS


def _seconds(file: BinaryIO, size: int) -> float | None:
    """How long it says it is; None where it does not say so cheaply."""
    head = file.read(_HEAD)
    try:
        if head[:4] == b"RIFF" and head[8:16] == b"WAVEfmt ":
            (rate,) = struct.unpack_from("<I", head, 28)
            return size / rate if rate else None  # of the bytes that are there: the size in a header may be any
        if head[:4] == b"fLaC":
            (packed,) = struct.unpack_from(">Q", head, 18)
            rate, samples = packed >> 44, packed & 0xF_FFFF_FFFF
            return samples / rate if rate and samples else None
        if head[:4] == b"OggS":
            return _ogg_seconds(file, size, head)
    except struct.error:  # ends within its header
        pass
    return None


def _ogg_seconds(file: BinaryIO, size: int, head: bytes) -> float | None:
    if head[28:36] == b"OpusHead":
        rate = _OPUS_RATE
    elif head[28:35] == b"\x01vorbis":
        (rate,) = struct.unpack_from("<I", head, 40)
    else:
        return None
    file.seek(max(0, size - _TAIL))
    tail = file.read(_TAIL)
    last = tail.rfind(b"OggS")
    if last < 0 or not rate:
        return None
    (position,) = struct.unpack_from("<q", tail, last + 6)
    return position / rate if position > 0 else None
