"""Channels become sound that is heard: quiet, far off the middle or out of phase as they may be."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from harness.engine_modules import load

levels = load("audio_chunks", "levels")
Sound = NDArray[np.float32]


def voice(seconds: float, seed: int = 0) -> Sound:
    """Noise in syllables, its loud parts at -18 dB."""
    random = np.random.default_rng(seed)
    time = np.arange(int(seconds * 16_000)) / 16_000
    return (0.125 * random.normal(size=len(time)) * (np.sin(2 * np.pi * 2 * time) > 0)).astype(np.float32)


def condition(channels: Sound, *, mix: bool = True, block: int = 1000) -> NDArray[np.float64]:
    blocks = [channels[:, begin : begin + block] for begin in range(0, channels.shape[1], block)]
    return np.concatenate(list(levels.conditioned(blocks, mix=mix)), axis=1).astype(np.float64) / 32768


def level(sound: NDArray[Any]) -> float:
    return float(np.sqrt((sound**2).mean()))


@given(st.floats(0.1, 3), st.integers(1, 40_000))
@settings(max_examples=20, deadline=None)
def test_an_ordinary_recording_stays_as_it_is(loudness: float, block: int) -> None:
    sound = loudness * voice(3)
    mixed = condition(np.stack([sound, sound]), block=block)
    assert mixed.shape == (1, len(sound))
    assert np.abs(mixed[0] - np.clip(sound, -1, 1)).max() <= 1 / 32768


@given(st.floats(-70, -40))
@settings(max_examples=20, deadline=None)
def test_a_quiet_recording_is_brought_up(decibels: float) -> None:
    sound = 10 ** (decibels / 20) * voice(40)
    heard = condition(sound[None])
    assert 0.005 < level(heard) < 0.1
    assert np.corrcoef(heard[0], sound)[0, 1] > 0.99


def test_what_is_too_quiet_for_a_voice_stays_noise() -> None:
    hiss = 10 ** (-80 / 20) * np.random.default_rng(1).normal(size=(1, 320_000)).astype(np.float32)
    assert level(condition(hiss)) < 0.03
    assert level(condition(np.zeros((1, 32_000), np.float32))) == 0


def test_a_click_is_not_the_level() -> None:
    sound = 0.003 * voice(20)
    sound[5_000:5_020] = 0.9
    assert level(condition(sound[None])) > 0.005


def test_floating_point_in_another_unit_is_brought_down() -> None:
    sound = 32768 * voice(5)
    heard = condition(sound[None])
    assert 0.01 < level(heard) < 0.2 and np.corrcoef(heard[0], sound)[0, 1] > 0.99


@given(st.floats(-0.6, 0.6), st.floats(-50, 0))
@settings(max_examples=20, deadline=None)
def test_an_offset_is_taken_off(offset: float, decibels: float) -> None:
    sound = 10 ** (decibels / 20) * voice(10)
    plain, shifted = condition(sound[None]), condition((sound + np.float32(offset))[None])
    assert np.abs(shifted - plain).max() < 0.02 + 0.2 * np.abs(plain).max()


def test_silence_that_was_put_in_is_not_shifted() -> None:
    sound = np.concatenate([voice(3) + 0.3, np.zeros(160_000, np.float32), voice(3) + 0.3]).astype(np.float32)
    assert not condition(sound[None])[0, 49_000:207_000].any()


@pytest.mark.parametrize("right", [-1.0, -0.97, -1.05])
def test_channels_that_cancel_each_other_out_are_heard(right: float) -> None:
    sound = voice(10)
    assert level(condition(np.stack([sound, right * sound]))) == pytest.approx(level(sound[None]), rel=0.1)


def test_one_sided_and_independent_channels_are_mixed() -> None:
    left, right = voice(5, 1), voice(5, 2)
    assert condition(np.stack([left, np.zeros_like(left)]))[0] == pytest.approx(left / 2, abs=1e-4)
    assert condition(np.stack([left, right]))[0] == pytest.approx((left + right) / 2, abs=1e-4)


def test_split_channels_have_levels_of_their_own() -> None:
    loud, quiet = voice(5, 1), np.float32(0.001) * voice(5, 2)
    heard = condition(np.stack([loud, quiet]), mix=False)
    assert heard.shape == (2, len(loud)) and heard[0] == pytest.approx(loud, abs=1e-4)
    assert level(heard[1]) > 0.01
