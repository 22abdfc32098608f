"""Files that are dear to read."""

from __future__ import annotations

import struct
import zlib


def tagged(mp3: bytes, frames: int) -> bytes:
    """The mp3 behind a tag of that many frames, each of another name."""
    made = bytearray()
    for number in range(frames):
        body = b"\x00" + f"k{number}".encode() + b"\x00v"
        made += b"TXXX" + struct.pack(">I", len(body)) + b"\x00\x00" + body
    size = bytes((len(made) >> shift) & 0x7F for shift in (21, 14, 7, 0))
    return b"ID3\x03\x00\x00" + size + bytes(made) + mp3


def commented(flac: bytes, comments: int) -> bytes:
    """The FLAC with that many comments, each of another name; FFmpeg reads them at once and then sorts them."""
    texts = [f"k{number}=v".encode() for number in range(comments)]
    made = struct.pack("<II", 0, comments) + b"".join(struct.pack("<I", len(text)) + text for text in texts)
    first = 4 + 4 + 34  # the end of what every FLAC begins with: its mark and its stream's description
    head = flac[:4] + bytes([flac[4] & 0x7F]) + flac[5:first]
    return head + bytes([4 | flac[4] & 0x80]) + len(made).to_bytes(3, "big") + made + flac[first:]


def bomb(size: int) -> bytes:
    """A film whose header is compressed, and says that it unpacks to `size` zeros."""
    packed = zlib.compress(bytes(1 << 16))
    cmvd = struct.pack(">I4sI", 12 + len(packed), b"cmvd", size) + packed
    dcom = struct.pack(">I4s4s", 12, b"dcom", b"zlib")
    cmov = struct.pack(">I4s", 8 + len(dcom) + len(cmvd), b"cmov") + dcom + cmvd
    moov = struct.pack(">I4s", 8 + len(cmov), b"moov") + cmov
    return struct.pack(">I4s4sI4s", 20, b"ftyp", b"qt  ", 0, b"qt  ") + moov + bytes(64)
