"""`talkies transcribe` at a terminal, of a real server."""

from __future__ import annotations

import os
import re
from pathlib import Path

import numpy as np

from harness import audio
from harness.server import Server
from harness.terminal import at_terminal
from harness.words import normalize

TIMES = 28
"""Of 11 s: in one batch fit at most eight windows."""


def recording(jfk: Path, folder: Path) -> Path:
    path = folder / "talk.flac"
    path.write_bytes(audio.encode(np.tile(audio.decode(jfk), TIMES), 16_000, "flac", "flac"))
    return path


def test_the_text_and_the_seconds(server: Server, jfk: Path, tmp_path: Path) -> None:
    long = recording(jfk, tmp_path)
    with at_terminal("transcribe", long, "--url", server.url) as (process, screen):
        screen.read_all()
        assert process.wait(120) == 0
    segments = server.transcribe(long, response_format="verbose_json", model="whisper-1").json()["segments"]
    shown = normalize(" ".join(screen.shown()))
    assert len(segments) > TIMES
    assert [segment["text"] for segment in segments if normalize(segment["text"]) not in shown] == []
    reading, writing = os.pipe()
    with at_terminal("transcribe", long, "--url", server.url, "-f", "srt", stdout=writing) as (process, screen):
        os.close(writing)
        screen.read_all()
        assert process.wait(120) == 0
    told = re.findall(r"(\d+):(\d\d) of 5:08", screen.text)
    seconds = [60 * int(minutes) + int(rest) for minutes, rest in told]
    assert seconds == sorted(seconds) and len({*seconds} - {0, 308}) >= 1, screen.text
    with os.fdopen(reading) as pipe:
        assert pipe.read() == server.transcribe(long, response_format="srt", model="whisper-1").text
