"""Whisper's pure parts: the timeline of a window, and which language a file is in."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from harness.engine_modules import load

timeline = load("whisper", "timeline")
evidence = load("whisper", "evidence")
Span = timeline.Span
EOT, BEGIN = 100, 200


def at(seconds: float) -> int:
    return BEGIN + round(seconds / timeline.PRECISION)


def split(*tokens: int, seconds: float = 30.0) -> tuple[list, float]:
    return timeline.split(tokens, BEGIN, EOT, seconds)


def test_segments_between_timestamps() -> None:
    tokens = (at(0), 1, 2, at(2.5), at(3), 3, at(5))
    assert split(*tokens) == ([Span(0, 2.5, (1, 2)), Span(3, 5, (3,))], 30)


def test_a_pair_of_timestamps_at_the_end_asks_for_more() -> None:
    assert split(at(0), 1, at(20), at(20)) == ([Span(0, 20, (1,))], 20)


def test_text_without_its_last_timestamp_is_kept() -> None:
    assert split(at(0), 1, at(20), at(21), 2, 3) == ([Span(0, 20, (1,)), Span(21, 30, (2, 3))], 30)


def test_text_without_timestamps_spans_the_window() -> None:
    assert split(1, 2, seconds=4.2) == ([Span(0, 4.2, (1, 2))], 4.2)


def test_nothing() -> None:
    assert split(seconds=4) == ([], 4)
    assert split(at(0), at(0), seconds=4) == ([], 4)


@given(st.lists(st.one_of(st.integers(0, EOT - 1), st.integers(BEGIN, BEGIN + 1500))), st.floats(0.1, 30))
def test_no_token_is_lost_and_time_runs_forward(tokens: list[int], seconds: float) -> None:
    spans, heard = timeline.split(tokens, BEGIN, EOT, seconds)
    assert [token for span in spans for token in span.tokens] == [token for token in tokens if token < EOT]
    times = [time for span in spans for time in (span.start, span.end)]
    assert times == sorted(times)
    assert all(0 <= time <= seconds for time in times)
    assert 0 <= heard <= seconds


def test_a_sure_language_stands() -> None:
    heard = evidence.Evidence()
    heard.add("a", {"de": 0.9, "en": 0.1}, 20)
    assert heard.language("a") == "de"
    heard.add("a", {"en": 1.0}, 1000)
    assert heard.language("a") == "de"


def test_an_unsure_language_is_weighed_on() -> None:
    heard = evidence.Evidence()
    heard.add("a", {"la": 0.3, "en": 0.25, "it": 0.2}, 5)
    assert heard.language("a") == "la"
    heard.add("a", {"en": 0.9, "la": 0.05}, 20)
    assert heard.language("a") == "en"


def test_few_files_are_remembered() -> None:
    heard = evidence.Evidence()
    for i in range(3 * evidence.FILES):
        heard.add(f"{i}", {"en": 1.0}, 1)
        heard.language(f"{i}")

    def now(file: str) -> str:
        heard.add(file, {"de": 1.0}, 1)
        return str(heard.language(file))

    last = f"{3 * evidence.FILES - 1}"
    assert now("0") == "de" and now(last) == "en"
    heard.forget([last])
    assert now(last) == "de"
