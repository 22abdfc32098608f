"""What counts as short: by time, not by bytes."""

from __future__ import annotations

import struct
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from talkies.asr.length import SHORT_SECONDS, is_short
from talkies.asr.transcriber import Transcriber
from talkies.engines.triton import ChunkAnswer
from talkies.errors import NotFound
from talkies.registry import Registry
from talkies.settings import PROJECT, Settings
from talkies_kit.wire import AsrOptions

from harness.audio import encode

RATE = 16_000
NOISE = np.random.default_rng(0).normal(0, 3000, 200 * RATE).astype(np.int16)


def file(folder: Path, data: bytes) -> Path:
    path = folder / "a"
    path.write_bytes(data)
    return path


@pytest.mark.parametrize(
    ("container", "codec", "rate"),
    [
        ("wav", "pcm_s16le", RATE),
        ("wav", "pcm_f32le", RATE),
        ("wav", "pcm_mulaw", RATE),
        ("flac", "flac", RATE),
        ("ogg", "libopus", RATE),
    ],
)
@pytest.mark.parametrize("seconds", [3, 55, 65, 190])
def test_formats_that_say_how_long_they_are(
    tmp_path: Path, container: str, codec: str, rate: int, seconds: int
) -> None:
    data = encode(NOISE[: seconds * rate], rate, container, codec)
    assert is_short(file(tmp_path, data)) is (seconds <= SHORT_SECONDS)


@pytest.mark.parametrize("seconds", [3, 59, 61])
def test_vorbis(tmp_path: Path, seconds: int) -> None:
    """By hand: the library has no encoder for it."""
    first = b"OggS" + bytes(24) + b"\x01vorbis" + struct.pack("<IBI", 0, 1, 44_100)
    last = b"OggS\0\4" + struct.pack("<q", seconds * 44_100) + bytes(3000)
    assert is_short(file(tmp_path, first + bytes(400_000) + last)) is (seconds <= SHORT_SECONDS)


def test_eleven_minutes_of_opus_are_not_short(tmp_path: Path) -> None:
    data = encode(np.zeros(660 * RATE, np.int16), RATE, "ogg", "libopus")
    assert len(data) < 2 << 20
    assert not is_short(file(tmp_path, data))


@pytest.mark.parametrize(("container", "codec"), [("mp3", "libmp3lame"), ("webm", "libopus"), ("adts", "aac")])
def test_others_are_short_by_a_bound(tmp_path: Path, container: str, codec: str) -> None:
    for seconds in (2, 190):
        data = encode(NOISE[: seconds * RATE], RATE, container, codec)
        assert is_short(file(tmp_path, data)) is (seconds == 2)


class Asked:
    """Stands in for tritonserver and for what holds a model; keeps the priorities."""

    def __init__(self) -> None:
        self.priorities: list[int] = []

    async def transcribe(self, *_: Any, priority: int, **__: Any) -> AsyncGenerator[ChunkAnswer]:
        self.priorities.append(priority)
        yield ChunkAnswer(0, -1, 0.0, 1.0, "en", [])

    @asynccontextmanager
    async def use(self, _: Any) -> AsyncGenerator[None]:
        yield


async def test_short_recordings_go_first(tmp_path: Path) -> None:
    asked: Any = Asked()
    transcriber = Transcriber(Settings.load(data_dir=tmp_path), asked, asked)
    model = Registry.load(PROJECT / "models.json").find("whisper-base")
    for seconds in (5, 190):
        path = file(tmp_path, encode(NOISE[: seconds * RATE], RATE, "ogg", "libopus"))
        await transcriber.transcribe(model, path, AsrOptions(), diarize=False, request_id="r")
    with pytest.raises(NotFound):
        await transcriber.transcribe(model, tmp_path / "gone", AsrOptions(), diarize=False, request_id="r")
    assert asked.priorities == [1, 2]


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    start=st.sampled_from([b"RIFF\0\0\0\0WAVEfmt ", b"fLaC", b"OggS", b"OggS" + bytes(24) + b"OpusHead", b"ID3", b""]),
    rest=st.binary(max_size=200) | st.binary(max_size=20).map(lambda unit: unit * 20_000),
)
@example(b"RIFF\0\0\0\0WAVEfmt ", bytes(100))
@example(b"OggS" + bytes(24) + b"OpusHead", bytes(200_000))
def test_any_bytes_have_an_answer(tmp_path: Path, start: bytes, rest: bytes) -> None:
    assert is_short(file(tmp_path, start + rest)) in (True, False)
