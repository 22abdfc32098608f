"""Which decoded text is trusted."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from harness.engine_modules import load

texts = load("whisper", "text")


def text(**facts: Any) -> Any:
    plain = {"tokens": (), "written": "x" * 100, "log_probability": -0.2, "no_speech": 0.1, "compression": 1.5}
    return texts.Text(**{**plain, "spoken": 10.0, **facts})


def test_a_refrain_is_believed() -> None:
    refrain = text(compression=3.1, log_probability=-0.11)
    assert not refrain.doubtful and not refrain.silent


def test_circles_are_not() -> None:
    assert text(compression=3.5, log_probability=-0.4).doubtful  # more was said than that
    assert text(compression=14, log_probability=-0.14, spoken=0.4).doubtful  # more than anybody could have said
    assert text(compression=14, log_probability=-0.14, spoken=0.4, no_speech=0.7).silent


FACTS = st.builds(
    text,
    written=st.integers(0, 500).map(lambda length: "x" * length),
    log_probability=st.floats(-3, 0),
    no_speech=st.floats(0, 1),
    compression=st.floats(0, 30),
    spoken=st.floats(0, 30),
)


@given(FACTS, FACTS)
def test_the_better_is_one_of_both_and_no_circle_if_one_is_none(one: Any, other: Any) -> None:
    best = texts.better(one, other)
    assert best in (one, other)
    assert best.runs_in_circles == (one.runs_in_circles and other.runs_in_circles) or not other.doubtful
    assert texts.better(None, other) == other
