"""Where audio is cut: nothing lost, nothing too long, in order, however the probabilities arrive."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.engine_modules import load

cutting = load("audio_chunks", "cutting")
Cutter, Knobs, Span = cutting.Cutter, cutting.Knobs, cutting.Span
KNOBS = Knobs.of(threshold=0.5, max_speech=28, min_silence_ms=500, pad_ms=200)

RUNS = st.lists(
    st.tuples(st.sampled_from([0.0, 0.2, 0.4, 0.45, 0.6, 1.0]), st.integers(1, 1200)), min_size=0, max_size=30
)
"""Speech probabilities and for how many windows they last."""


def probabilities(runs: list[tuple[float, int]]) -> np.ndarray:
    return np.concatenate([np.full(n, p, np.float32) for p, n in runs] or [np.zeros(0, np.float32)])


def cut(values: np.ndarray, step: int = 10**9, knobs: object = KNOBS) -> list:
    cutter = Cutter(knobs)
    spans = []
    for begin in range(0, len(values), step):
        before = cutter.kept_from
        new = cutter.push(values[begin : begin + step])
        assert all(span.start >= before for span in new), "needs audio that was given up"
        spans += new
    before = cutter.kept_from
    new = cutter.finish()
    assert all(span.start >= before for span in new)
    return spans + new


@settings(max_examples=300, deadline=None)
@given(RUNS, st.sampled_from([1.0, 5.0, 28.0]), st.sampled_from([0, 100, 500]), st.sampled_from([0, 200]))
def test_spans_are_in_order_and_short_and_hold_all_speech(
    runs: list[tuple[float, int]], max_speech: float, silence: int, pad: int
) -> None:
    knobs = Knobs.of(0.5, max_speech, silence, pad)
    values = probabilities(runs)
    spans = cut(values, 64, knobs)
    assert all(0 <= s.start < s.end <= len(values) and s.end - s.start <= knobs.longest for s in spans)
    assert all(a.end <= b.start for a, b in pairwise(spans))
    covered = np.zeros(len(values), bool)
    for span in spans:
        covered[span.start : span.end] = True
    edges = np.flatnonzero(np.diff(np.concatenate([[False], (values >= 0.5) & ~covered, [False]]).astype(np.int8)))
    assert all(b - a < cutting.BLIP for a, b in edges.reshape(-1, 2)), "speech lost"


@settings(max_examples=100, deadline=None)
@given(RUNS, st.integers(1, 100))
def test_how_the_audio_arrives_does_not_matter(runs: list[tuple[float, int]], step: int) -> None:
    values = probabilities(runs)
    assert cut(values, step) == cut(values, 64)


@given(st.integers(1, 5000))
def test_a_long_silence_keeps_nothing(windows: int) -> None:
    cutter = Cutter(KNOBS)
    assert cutter.push(np.zeros(windows, np.float32)) == []
    assert cutter.kept_from >= windows - KNOBS.pad
    assert cutter.finish() == []


def test_endless_speech_keeps_no_more_than_a_span() -> None:
    cutter = Cutter(KNOBS)
    for _ in range(500):
        cutter.push(np.ones(64, np.float32))
    assert 500 * 64 - cutter.kept_from <= KNOBS.longest + 64


def test_a_span_is_padded_speech() -> None:
    assert cut(probabilities([(0.0, 100), (1.0, 50), (0.0, 100)])) == [Span(100 - KNOBS.pad, 150 + KNOBS.pad)]


def test_neighbours_share_a_span_but_not_across_a_long_silence() -> None:
    near = probabilities([(0.0, 50), (1.0, 100), (0.0, 60), (1.0, 100), (0.0, 50)])
    far = probabilities([(0.0, 50), (1.0, 100), (0.0, 200), (1.0, 100), (0.0, 50)])
    assert len(cut(near)) == 1
    assert len(cut(far)) == 2


def test_a_full_span_ends_in_its_last_silence() -> None:
    values = probabilities([(1.0, 300), (0.0, 20), (1.0, 400), (0.0, 20), (1.0, 400)])
    first, second = cut(values)
    assert 720 <= first.end <= 740 and first.end <= second.start <= 740


def test_speech_without_silence_is_cut_at_its_deepest_dip() -> None:
    values = probabilities([(0.9, 600), (0.4, 6), (0.9, 100), (0.6, 30), (0.9, 500)])
    first, second = cut(values)
    assert 600 <= first.end <= 606 and second.start == first.end


@pytest.mark.parametrize("windows", [1, cutting.BLIP - 1])
def test_a_click_is_not_speech(windows: int) -> None:
    assert cut(probabilities([(0.0, 100), (1.0, windows), (0.0, 100)])) == []
