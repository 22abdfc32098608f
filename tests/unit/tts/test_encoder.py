"""Every audio format: magic bytes, headers, and the PCM's length after decoding."""

from __future__ import annotations

import io
import wave
from collections.abc import AsyncGenerator
from typing import Any

import av
import numpy as np
import pytest
from av.container import InputContainer
from hypothesis import example, given, settings
from hypothesis import strategies as st
from talkies.errors import BadRequest, choose
from talkies.tts import encoder
from talkies.tts.encoder import FORMATS, Encoder

RATE = 24_000
MAGIC = {"mp3": (b"ID3", b"\xff\xf3"), "opus": (b"OggS",), "aac": (b"\xff\xf1",), "flac": (b"fLaC",), "wav": (b"RIFF",)}
FRAME = {"mp3": 576, "opus": 480, "aac": 1024, "flac": 0, "wav": 0, "pcm": 0}
"""Samples at 24 kHz by which a decoded file may be longer or shorter."""
MP3_DELAY = 1105

Samples = np.ndarray[Any, np.dtype[np.int16]]


def tone(samples: int, rate: int = RATE) -> Samples:
    return (np.sin(2 * np.pi * 440 * np.arange(samples) / rate) * 9000).astype(np.int16)


def speech_like(samples: int) -> Samples:
    """A tone that begins with 0.1 s of silence, as synthesised speech does."""
    pcm = tone(samples)
    pcm[: RATE // 10] = 0
    return pcm


def encoded(name: str, pcm: Samples, *, rate: int = RATE, cuts: tuple[int, ...] = (), streamed: bool = False) -> bytes:
    sink = io.BytesIO()
    encoder = Encoder(FORMATS[name], rate, None if streamed else sink)
    pieces = np.split(pcm, sorted(cut for cut in cuts if cut < len(pcm)))
    made = [encoder.write(piece.tobytes()) for piece in pieces]
    assert streamed or not any(made)
    return b"".join(made) + encoder.finish() + sink.getvalue()


def decoded(name: str, data: bytes) -> tuple[Samples, int]:
    """Mono samples and their rate."""
    if name == "pcm":
        return np.frombuffer(data, "<i2"), RATE
    # A few AAC frames are too little to guess the format by.
    with av.open(io.BytesIO(data), format="aac" if name == "aac" else None) as container:
        assert isinstance(container, InputContainer)
        resampler = av.AudioResampler(format="s16", layout="mono")
        frames = [out for frame in container.decode(audio=0) for out in resampler.resample(frame)]
        rate = container.streams.audio[0].rate
    return np.concatenate([frame.to_ndarray()[0] for frame in frames]), rate


streamed_too = pytest.mark.parametrize("streamed", [False, True], ids=["whole", "streamed"])


@streamed_too
@pytest.mark.parametrize("name", FORMATS)
@settings(max_examples=25, deadline=None)
@given(st.integers(1, 60_000), st.lists(st.integers(0, 60_000), max_size=3).map(tuple))
@example(1, ())
@example(575, (1, 2))
@example(1024, ())
@example(2049, (1024,))
@example(47832, ())
def test_decodes_to_the_length_of_the_pcm(name: str, streamed: bool, length: int, cuts: tuple[int, ...]) -> None:
    samples, rate = decoded(name, encoded(name, tone(length), cuts=cuts, streamed=streamed))
    extra = len(samples) * RATE / rate - length
    # A loud start keeps the encoder's delay where the file has no field for it; the last frame is filled up.
    if name == "aac":
        extra -= FRAME["aac"]
    elif name == "mp3" and streamed:
        extra -= MP3_DELAY
    assert -FRAME[name] <= extra <= FRAME[name]


@streamed_too
@pytest.mark.parametrize("name", FORMATS)
@pytest.mark.parametrize("length", [3000, 24_000, 50_001])
def test_speech_keeps_length_place_and_level(name: str, length: int, streamed: bool) -> None:
    pcm = speech_like(length)
    samples, rate = decoded(name, encoded(name, pcm, cuts=(700, 1500, 9000), streamed=streamed))
    factor = rate // RATE
    assert abs(len(samples) / factor - length) <= FRAME[name]
    heard = samples[::factor][:length].astype(float)
    shift = int(np.argmax(np.correlate(np.pad(heard, 60), pcm[: len(heard)].astype(float)))) - 60
    early = 2 * FRAME["mp3"] - MP3_DELAY if name == "mp3" and streamed else 0  # 2 ms of the silence go
    assert abs(shift + early) <= 2
    assert 0.8 < np.sqrt(np.mean(heard**2)) / np.sqrt(np.mean(pcm.astype(float) ** 2)) < 1.2


def test_aac_keeps_a_loud_start_whole() -> None:
    samples, _ = decoded("aac", encoded("aac", tone(6000)))
    start = samples[FRAME["aac"] :][: FRAME["aac"]].astype(float)  # behind the encoder's delay
    assert np.corrcoef(start, tone(FRAME["aac"]))[0, 1] > 0.99


@streamed_too
@pytest.mark.parametrize("name", ["flac", "wav", "pcm"])
def test_lossless_formats_keep_every_sample(name: str, streamed: bool) -> None:
    pcm = tone(12_345)
    assert np.array_equal(decoded(name, encoded(name, pcm, cuts=(1, 7000), streamed=streamed))[0], pcm)


@streamed_too
@pytest.mark.parametrize("name", MAGIC)
def test_magic_bytes(name: str, streamed: bool) -> None:
    assert encoded(name, tone(5000), streamed=streamed).startswith(MAGIC[name])


@streamed_too
@pytest.mark.parametrize("name", FORMATS)
def test_no_samples_become_a_playable_silence(name: str, streamed: bool) -> None:
    samples, rate = decoded(name, encoded(name, tone(0), streamed=streamed))
    assert 0 < len(samples) / rate < 0.2
    assert not samples.any()


def test_wav_header_has_the_real_sizes() -> None:
    data = encoded("wav", tone(1000))
    assert len(data) == 44 + 2000
    assert int.from_bytes(data[4:8], "little") == len(data) - 8
    with wave.open(io.BytesIO(data)) as reader:
        assert (reader.getframerate(), reader.getnchannels(), reader.getsampwidth()) == (RATE, 1, 2)
        assert reader.getnframes() == 1000


def test_a_streamed_wav_says_that_its_sizes_are_unknown() -> None:
    data = encoded("wav", tone(1000), streamed=True)
    assert len(data) == 44 + 2000
    assert data[4:8] == data[40:44] == b"\xff" * 4
    assert data[36:40] == b"data"


@pytest.mark.parametrize("name", FORMATS)
def test_streamed_bytes_come_with_their_sentence(name: str) -> None:
    encoder, heads = Encoder(FORMATS[name], RATE), bytearray()
    for second in range(1, 4):
        heads += encoder.write(speech_like(RATE).tobytes())
        samples, rate = decoded(name, bytes(heads))
        # Ogg keeps two pages of 0.1 s back, FLAC half a block, the others a few frames.
        assert second - 0.25 < len(samples) / rate <= second + 0.05


@streamed_too
@pytest.mark.parametrize(("name", "bit_rate"), [("mp3", 128_000), ("aac", 128_000), ("opus", 64_000)])
def test_bit_rates(name: str, bit_rate: int, streamed: bool) -> None:
    noise = np.random.default_rng(0).normal(0, 6000, RATE * 4).astype(np.int16)
    actual = len(encoded(name, noise, streamed=streamed)) * 8 / 4
    assert 0.7 * bit_rate < actual < 1.15 * bit_rate


@streamed_too
@pytest.mark.parametrize("rate", [22_050, 12_000])
def test_opus_of_any_rate(rate: int, streamed: bool) -> None:
    samples, decoded_rate = decoded("opus", encoded("opus", tone(rate, rate), rate=rate, streamed=streamed))
    assert abs(len(samples) - decoded_rate) <= 1


async def pieces(cuts: tuple[int, ...], closed: list[bool]) -> AsyncGenerator[bytes]:
    try:
        for piece in np.split(tone(9000), cuts):
            yield piece.tobytes()
    finally:
        closed.append(True)


async def test_encode_takes_the_pcm_as_it_comes() -> None:
    sink = io.BytesIO()
    await encoder.encode(pieces((10, 4000), []), FORMATS["flac"], RATE, sink)
    assert sink.getvalue() == encoded("flac", tone(9000), cuts=(10, 4000))


async def test_stream_gives_what_each_piece_made_and_nothing_empty() -> None:
    made = [piece async for piece in encoder.stream(pieces((10, 10, 4000), []), FORMATS["pcm"], RATE)]
    assert [len(piece) for piece in made] == [20, 7980, 10_000]


async def test_a_stream_that_is_closed_closes_its_pcm() -> None:
    closed: list[bool] = []
    stream = encoder.stream(pieces((4000,), closed), FORMATS["wav"], RATE)
    await anext(stream)
    assert not closed
    await stream.aclose()
    assert closed


def test_an_unknown_format_is_refused_with_the_list() -> None:
    with pytest.raises(BadRequest, match="mp3, opus, aac, flac, wav, pcm") as caught:
        choose(FORMATS, "ogg", "response_format")
    assert caught.value.param == "response_format"
