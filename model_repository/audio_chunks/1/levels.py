"""From channels as they were recorded to sound as an engine wants it: mixed, without offset, loud enough.

Only what would not be heard is changed: sound of an ordinary level comes out as it went in. Pure.
"""

from __future__ import annotations

import itertools
from collections import deque
from collections.abc import Iterable, Iterator

import numpy as np
from numpy.typing import NDArray
from talkies_kit.wire import SAMPLE_RATE

Block = NDArray[np.float32]
"""[channels, samples], full scale at 1."""

STEP = SAMPLE_RATE
"""Samples that are treated alike."""
AHEAD = 30
"""Steps that are looked at before the first is given out."""
_PART = SAMPLE_RATE // 10
_LOUDEST = 5
"""Parts of 0.1 s of which the softest tells the level of all: a click or two are not speech."""
CANCELLED = 0.01
"""Part of the louder channel's power below which the other one has taken it out of the mix: 20 dB down."""
QUIET = 0.005
"""Level below which sound is brought up: -46 dB; speech above it is heard as it is."""
TARGET = 0.05
"""Level that it is brought to."""
MOST = 200.0
"""Gain (46 dB) at most: what is softer is no recording of a voice, and is left as noise."""
OVERDRIVEN = 1.0
"""Level of floating point sound that is in another unit, and is brought down."""
OFFSET = 0.1
"""Part of a step's level from which on its mean is an offset, and not chance."""
_NEWS = 0.5
"""Weight of a step's offset beside those before it."""


def conditioned(blocks: Iterable[Block], *, mix: bool) -> Iterator[NDArray[np.int16]]:
    """As many samples as came in: of one channel when `mix`, else of as many as they have; all blocks have the same."""
    centre, mixer = _Centre(), _Mixer()
    steps = (centre.centred(step) for step in _steps(blocks))
    for step in _levelled(mixer.mixed(step) if mix else step for step in steps):
        yield np.clip(np.rint(step * 32768), -32768, 32767).astype(np.int16)


def _steps(blocks: Iterable[Block]) -> Iterator[Block]:
    """The same in blocks of STEP samples, the last one shorter."""
    parts: list[Block] = []
    size = 0
    for block in blocks:
        parts.append(block)
        size += block.shape[1]
        if size >= STEP:
            joined = np.concatenate(parts, axis=1)
            whole = size // STEP * STEP
            yield from (joined[:, begin : begin + STEP] for begin in range(0, whole, STEP))
            parts, size = [joined[:, whole:]], size - whole
    if size:
        yield np.concatenate(parts, axis=1)


class _Centre:
    """Takes off a constant offset, which cheap sound cards add; samples of exactly 0 are silence that was put in."""

    def __init__(self) -> None:
        self._offset: Block | None = None

    def centred(self, step: Block) -> Block:
        sounding = step != 0
        count = np.maximum(sounding.sum(axis=1, keepdims=True), 1)
        mean = step.sum(axis=1, keepdims=True) / count
        spread = np.sqrt((((step - mean) * sounding) ** 2).sum(axis=1, keepdims=True) / count)
        found = np.where(np.abs(mean) > OFFSET * spread, mean, 0).astype(np.float32)
        if self._offset is None:
            self._offset = found
        before, self._offset = self._offset, self._offset + _NEWS * (found - self._offset)
        if not before.any() and not self._offset.any():
            return step
        ramp = np.linspace(before[:, 0], self._offset[:, 0], step.shape[1], axis=1, dtype=np.float32)
        return np.asarray(step - ramp * sounding, np.float32)


class _Mixer:
    """Mixes channels, or takes the loudest where they cancel each other out."""

    def __init__(self) -> None:
        self._powers: NDArray[np.float64] | None = None
        """Of each channel and of the mix, over the last steps."""

    def mixed(self, step: Block) -> Block:
        mix = step.mean(axis=0, keepdims=True)
        if len(step) == 1:
            return step
        now = (np.concatenate([step, mix]).astype(np.float64) ** 2).sum(axis=1)
        self._powers = now if self._powers is None else _NEWS * self._powers + now
        *channels, mixed = self._powers
        if mixed < CANCELLED * max(channels):
            return step[[int(np.argmax(channels))]]
        return np.asarray(mix, np.float32)


def _levelled(steps: Iterable[Block]) -> Iterator[Block]:
    """Each channel at a level at which it is heard, by what of it was loudest so far and AHEAD."""
    loudest: NDArray[np.float32] | None = None
    gain: Block | None = None
    held: deque[Block] = deque()
    for step in itertools.chain(steps, itertools.repeat(None)):
        if step is not None:
            held.append(step)
            loudest = _loudest(loudest, step)
            if len(held) <= AHEAD:
                continue
        if not held or loudest is None:
            return
        now = _gains(loudest)
        yield _amplified(held.popleft(), now if gain is None else gain, now)
        gain = now


def _loudest(before: NDArray[np.float32] | None, step: Block) -> NDArray[np.float32]:
    """[channels, _LOUDEST]: the levels of the loudest parts of all steps, rising."""
    padded = np.pad(step, ((0, 0), (0, -step.shape[1] % _PART)))
    levels = np.sqrt((padded.reshape(len(step), -1, _PART) ** 2).mean(axis=2))
    known = np.zeros((len(step), _LOUDEST), np.float32) if before is None else before
    return np.asarray(np.sort(np.concatenate([known, levels], axis=1), axis=1)[:, -_LOUDEST:], np.float32)


def _gains(loudest: NDArray[np.float32]) -> Block:
    """Of each channel, [channels, 1]."""
    return np.array([[_gain(float(channel[channel > 0].min(initial=np.inf)))] for channel in loudest], np.float32)


def _gain(level: float) -> float:
    if level < QUIET:
        return min(TARGET / level, MOST)
    return TARGET / level if OVERDRIVEN < level < np.inf else 1.0


def _amplified(step: Block, before: Block, now: Block) -> Block:
    if (before == 1).all() and (now == 1).all():
        return step
    return np.asarray(step * np.linspace(before[:, 0], now[:, 0], step.shape[1], axis=1, dtype=np.float32), np.float32)
