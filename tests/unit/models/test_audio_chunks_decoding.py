"""Decoding: containers, layouts, damage, limits, and files that would read other files."""

from __future__ import annotations

import io
import struct
import wave
from pathlib import Path

import numpy as np
import pytest
from talkies_kit.wire import InvalidInput

from harness.audio import encode, tone, video_only
from harness.engine_modules import load

decoding = load("audio_chunks", "decoding")
sources = load("audio_chunks", "sources")
watched = load("audio_chunks", "watched")


def decode(data: bytes, split: bool = False, max_seconds: float = 3600.0) -> np.ndarray:
    blocks = list(decoding.decode(watched.Watched(io.BytesIO(data)), split=split, max_seconds=max_seconds))
    return np.concatenate(blocks, axis=1)


def fault(data: bytes, split: bool = False, max_seconds: float = 3600.0) -> InvalidInput:
    with pytest.raises(InvalidInput) as caught:
        decode(data, split, max_seconds)
    return caught.value


def wav(samples: np.ndarray, rate: int = 16_000) -> bytes:
    out = io.BytesIO()
    with wave.open(out, "wb") as file:
        file.setnchannels(1 if samples.ndim == 1 else samples.shape[0])
        file.setsampwidth(2)
        file.setframerate(rate)
        file.writeframes(samples.T.astype("<i2").tobytes())
    return out.getvalue()


@pytest.mark.parametrize(
    ("container", "codec", "rate"),
    [
        ("wav", "pcm_s16le", 8_000),
        ("flac", "flac", 44_100),
        ("ogg", "libopus", 48_000),
        ("mp3", "libmp3lame", 44_100),
        ("mp4", "aac", 48_000),
        ("adts", "aac", 48_000),
        ("matroska", "libopus", 48_000),
        ("webm", "libopus", 48_000),
        ("aiff", "pcm_s16be", 22_050),
        ("mpegts", "aac", 48_000),
        ("avi", "pcm_s16le", 16_000),
    ],
)
def test_containers(container: str, codec: str, rate: int) -> None:
    pcm = decode(encode(tone(2, rate), rate, container, codec))
    assert pcm.shape[0] == 1 and pcm.dtype == np.int16
    assert abs(pcm.shape[1] / 16_000 - 2) < 0.12
    spectrum = np.abs(np.fft.rfft(pcm[0, 8_000:24_000]))
    assert abs(int(spectrum.argmax()) - 440) <= 1


def test_surround_is_mixed_and_stereo_is_split() -> None:
    sound = tone(1, 48_000)
    surround = encode(np.stack([sound] * 6), 48_000, "wav", "pcm_s16le", "5.1")
    assert decode(surround).shape == (1, 16_000)
    stereo = encode(np.stack([sound, np.zeros_like(sound)]), 48_000, "wav", "pcm_s16le", "stereo")
    left, right = decode(stereo, split=True)
    assert np.abs(left).max() > 7_000 and not right.any()
    assert fault(surround, split=True).param == "diarization"
    assert fault(wav(sound), split=True).param == "diarization"


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"garbage " * 1000,
        bytes(10_000),
        wav(np.zeros(0)),
        wav(np.zeros(1)),
        wav(np.zeros(800)),
        video_only(),
        wav(tone(10))[:100_000],
        encode(tone(10), 16_000, "flac", "flac")[:30_000],
        encode(tone(10), 16_000, "mp4", "aac")[:10_000],
    ],
    ids=[
        "empty",
        "garbage",
        "zeros",
        "no samples",
        "one sample",
        "50 ms",
        "video",
        "half wav",
        "half flac",
        "half mp4",
    ],
)
def test_what_is_no_audio(data: bytes) -> None:
    error = fault(data)
    assert error.param == "file" and len(str(error)) > 10


@pytest.mark.parametrize("size", [0, 0x7FFFFFFF, 0x7FFFF000, 0x80000000, 0xFFFFFFFF])
def test_streamed_wav_headers(size: int) -> None:
    """Who writes to a pipe does not know the size yet."""
    data = bytearray(wav(tone(3)))
    struct.pack_into("<I", data, 4, size)
    struct.pack_into("<I", data, 40, size)
    assert decode(bytes(data)).shape[1] == 48_000


def test_a_corrupt_frame_costs_itself_only() -> None:
    data = bytearray(encode(tone(10, 44_100), 44_100, "mp3", "libmp3lame"))
    data[40_000:41_000] = bytes(1_000)
    assert decode(bytes(data)).shape[1] / 16_000 > 9.5


def test_too_long_is_found_before_and_while_decoding() -> None:
    assert "longer than 5 seconds" in str(fault(wav(tone(6)), max_seconds=5))
    assert "longer than 5 seconds" in str(fault(encode(tone(6, 48_000), 48_000, "ogg", "libopus"), max_seconds=5))


@pytest.mark.parametrize(
    "playlist",
    [
        "#EXTM3U\n#EXT-X-VERSION:3\n#EXT-X-TARGETDURATION:10\n#EXTINF:10,\n{path}\n#EXT-X-ENDLIST\n",
        "ffconcat version 1.0\nfile '{path}'\n",
        "v=0\nc=IN IP4 127.0.0.1\nm=audio 5004 RTP/AVP 0\n",
        '<?xml version="1.0"?><MPD xmlns="urn:mpeg:dash:schema:mpd:2011" type="static" '
        'mediaPresentationDuration="PT2S">'
        '<Period><AdaptationSet mimeType="audio/wav"><Representation id="a" bandwidth="1"><BaseURL>{path}</BaseURL>'
        "</Representation></AdaptationSet></Period></MPD>",
    ],
    ids=["hls", "concat", "sdp", "dash"],
)
@pytest.mark.parametrize("suffix", ["m3u8", "ffconcat", "wav"])
def test_playlists_read_no_other_file(playlist: str, suffix: str, tmp_path: Path) -> None:
    secret = tmp_path / "secret.wav"
    secret.write_bytes(wav(tone(2)))
    file = tmp_path / f"list.{suffix}"
    file.write_text(playlist.format(path=secret))
    with file.open("rb") as handle, pytest.raises(InvalidInput):
        list(decoding.decode(watched.Watched(handle), split=False, max_seconds=60))


def test_paths_stay_in_their_roots(tmp_path: Path) -> None:
    root, outside = tmp_path / "root", tmp_path / "outside.wav"
    root.mkdir()
    outside.write_bytes(b"x")
    inside = root / "a.wav"
    inside.write_bytes(b"y")
    (root / "link.wav").symlink_to(outside)
    (root / "good.wav").symlink_to(inside)
    (tmp_path / "rootless").mkdir()
    (tmp_path / "rootless" / "b.wav").write_bytes(b"x")
    roots = sources.roots(f"{root}:")
    for path in (str(inside), str(root / "good.wav"), f"{root}/../root/a.wav"):
        with sources.open_file(path, roots) as file:
            assert file.read() == b"y"
    for path in (
        str(outside),
        str(root / "link.wav"),
        f"{root}/../outside.wav",
        "",
        "a\0b",
        str(tmp_path / "rootless" / "b.wav"),
    ):
        with pytest.raises(InvalidInput, match="outside"):
            sources.open_file(path, roots)
    for path in (str(root / "absent.wav"), str(root)):
        with pytest.raises(InvalidInput) as caught:
            sources.open_file(path, roots)
        assert caught.value.param == "file"
