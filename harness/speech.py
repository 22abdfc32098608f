"""What speech is made of in tests, and how its files look."""

from __future__ import annotations

SENTENCES = [
    "The quick brown fox jumps over the lazy dog.",
    "She bought fresh bread and two bottles of milk at the market this morning.",
    "Please call me back tomorrow afternoon before the train leaves.",
    "The library closes early on Sunday because the staff is small.",
    "Nobody knew why the old clock on the wall had stopped.",
    "We walked along the river until the sun went down behind the hills.",
]
FOX = SENTENCES[0]
STEPS = "One two. Three four. Five six."
"""Three short sentences, where their words do not matter."""
COUNTING = "One two three four five six seven eight nine ten. "
"""Some 4 s, to be repeated."""

MAGIC = {
    "mp3": (b"ID3", b"\xff\xfb", b"\xff\xf3"),
    "opus": (b"OggS",),
    "aac": (b"\xff\xf1", b"\xff\xf9"),
    "flac": (b"fLaC",),
    "wav": (b"RIFF",),
}
"""How a file of each `response_format` may begin."""
CONTENT_TYPES = {"mp3": "audio/mpeg", "opus": "audio/ogg", "aac": "audio/aac", "flac": "audio/flac", "wav": "audio/wav"}
FRAME = {"mp3": 1152 / 24_000, "opus": 0.02, "aac": 1024 / 24_000, "flac": 0.0, "wav": 0.0}
"""Seconds of one frame of the codec at 24 kHz."""
