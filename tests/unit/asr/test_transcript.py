"""The merge keeps what was said and makes one timeline of it, whatever order and times the chunks come with."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st
from talkies.asr.subtitles import Cue, Layout, cues
from talkies.asr.transcript import merge
from talkies.engines.triton import ChunkAnswer
from talkies_kit.wire import Segment, Token, Word

SECONDS = st.floats(-5, 500, allow_nan=False)
WORDS = st.lists(st.builds(Word, st.text("ab ", min_size=1), SECONDS, SECONDS), max_size=3).map(tuple)
SEGMENTS = st.builds(Segment, SECONDS, SECONDS, st.text(st.characters(codec="utf-8"), max_size=8), WORDS)
CHUNKS = st.lists(
    st.builds(
        ChunkAnswer,
        index=st.integers(0, 9),
        channel=st.integers(0, 1),
        start=st.floats(0, 400),
        duration=st.floats(0, 400),
        language=st.sampled_from(["", "en", "de"]),
        segments=st.lists(SEGMENTS, max_size=4),
    ),
    max_size=6,
)


def chunk(
    *segments: Segment, start: float = 0.0, channel: int = -1, duration: float = 10.0, lang: str = "en"
) -> ChunkAnswer:
    return ChunkAnswer(0, channel, start, duration, lang, segments)


@given(CHUNKS, st.booleans())
def test_one_timeline_and_nothing_lost(chunks: list[ChunkAnswer], diarized: bool) -> None:
    chunks = chunks if diarized else [replace(each, channel=-1) for each in chunks]
    transcript = merge(chunks, task="transcribe", language="", diarized=diarized)
    segments = transcript.segments
    said = [segment for each in chunks for segment in each.segments if segment.text.strip()]
    assert transcript.duration == round(max((each.duration for each in chunks), default=0.0), 3)
    assert [segment.id for segment in segments] == list(range(len(said)))
    assert sorted(segment.text for segment in segments) == sorted(segment.text for segment in said)
    assert len(transcript.words) == sum(len(segment.words) for segment in said)
    assert [segment.start for segment in segments] == sorted(segment.start for segment in segments)
    for segment in segments:
        assert 0 <= segment.start <= segment.end <= transcript.duration
        assert segment.text.strip() in transcript.text or diarized
        assert (segment.channel in ("L", "R")) == diarized
    starts = [word.start for word, _ in transcript.words]
    assert starts == sorted(starts)
    assert all(0 <= word.start <= word.end <= transcript.duration for word, _ in transcript.words)
    for channel in {segment.channel for segment in segments}:
        own = [segment for segment in segments if segment.channel == channel]
        assert all(a.end <= b.start or a.start == b.start for a, b in pairwise(own))


@given(CHUNKS, st.randoms(use_true_random=False))
def test_the_order_of_arrival_does_not_matter(chunks: list[ChunkAnswer], random: object) -> None:
    distinct = list({each.start: each for each in chunks}.values())
    shuffled = sorted(distinct, key=lambda _: random.random())  # type: ignore[attr-defined]
    first, second = (merge(each, task="transcribe", language="en", diarized=True) for each in (distinct, shuffled))
    assert first == second


def test_turns_of_two_speakers() -> None:
    left = chunk(Segment(0, 1, " hi"), Segment(1, 2, " how's\nit going"), Segment(4, 5, " cool man"), channel=0)
    right = chunk(Segment(2.5, 3.5, " not bad you"), channel=1)
    transcript = merge([right, left], task="transcribe", language="", diarized=True)
    assert transcript.text == "L: hi how's it going\nR: not bad you\nL: cool man"
    assert [segment.channel for segment in transcript.segments] == ["L", "L", "R", "L"]


def test_the_language_most_was_said_in() -> None:
    chunks = [
        chunk(Segment(0, 1, "ja"), lang="de"),
        chunk(Segment(2, 3, "quite a bit more"), start=2),
        chunk(start=4, lang=""),
    ]
    assert merge(chunks, task="transcribe", language="", diarized=False).language == "en"
    assert merge(chunks, task="transcribe", language="fr", diarized=False).language == "fr"


def test_silence() -> None:
    transcript = merge([ChunkAnswer(-1, -1, 0, 3.5, "", [])], task="transcribe", language="", diarized=False)
    assert (transcript.text, transcript.duration, transcript.language) == ("", 3.5, "")
    assert transcript.segments == ()


@pytest.mark.parametrize(("language", "text"), [("zh", "你好世界"), ("en", "你好 世界")])
def test_segments_are_joined_as_the_language_is_written(language: str, text: str) -> None:
    chunks = [chunk(Segment(0, 1, " 你好"), Segment(1, 2, "世界"))]
    assert merge(chunks, task="transcribe", language=language, diarized=False).text == text


def test_a_model_without_times_has_text_and_one_cue() -> None:
    chunks = [chunk(Segment(0, 0, "second"), start=5, duration=9), chunk(Segment(0, 0, "first"), duration=4)]
    transcript = merge(chunks, task="transcribe", language="en", diarized=False, timestamps=False)
    assert (transcript.text, transcript.segments, transcript.words) == ("first second", (), [])
    assert cues(transcript, Layout()) == [Cue(0.0, 9.0, ("first second",))]


def test_an_end_beyond_the_next_start_is_cut_only_within_a_channel() -> None:
    left, right = chunk(Segment(0, 3, "a"), channel=0), chunk(Segment(1, 2, "b"), channel=1)
    assert merge([left, right], task="transcribe", language="en", diarized=True).segments[0].end == 3
    mono = [chunk(Segment(0, 3, "a")), chunk(Segment(1, 2, "b"), start=1)]
    assert merge(mono, task="transcribe", language="en", diarized=False).segments[0].end == 1


def test_spaces_follow_the_language_of_the_text() -> None:
    chunks = [
        chunk(Segment(0, 1, "你好"), Segment(1, 2, "世界"), lang="zh"),
        chunk(Segment(3, 4, "hello"), Segment(4, 5, "world"), start=3),
    ]
    assert merge(chunks, task="transcribe", language="", diarized=False).text == "你好世界 hello world"
    japanese = [chunk(Segment(0, 1, "Good"), Segment(1, 2, "morning"), lang="ja")]
    translated = merge(japanese, task="translate", language="ja", diarized=False, written="en")
    assert (translated.text, translated.language) == ("Good morning", "ja")


def test_times_stay_within_their_chunk() -> None:
    early, late = Segment(1, 5, "a", (Word("a", 1, 99),)), Segment(7, 99, "b")
    first, second = merge(
        [chunk(early, late, start=2, duration=8), chunk(duration=20)], task="transcribe", language="", diarized=False
    ).segments
    assert (first.start, first.end, first.words) == (2, 5, (Word("a", 2, 8),))
    assert (second.start, second.end) == (7, 8)


def test_a_dialogue_without_times_has_turns() -> None:
    chunks = [
        chunk(Segment(0, 0, "well"), channel=0),
        chunk(Segment(0, 0, "yes"), start=5, channel=1),
        chunk(Segment(0, 0, "so"), start=9, channel=0),
    ]
    transcript = merge(chunks, task="transcribe", language="en", diarized=True, timestamps=False)
    assert (transcript.text, transcript.segments) == ("L: well\nR: yes\nL: so", ())
    assert transcript.plain == "well yes so"


SAID = st.lists(st.text(st.characters(codec="utf-8", categories=("L", "Zs", "Po")), min_size=1, max_size=5), max_size=4)


@given(st.lists(st.tuples(SAID, st.sampled_from(["en", "ja"])), max_size=5), st.data())
def test_tokens_joined_are_the_text(said: list[tuple[list[str], str]], data: st.DataObject) -> None:
    """Wherever the words are cut, and whatever white space is around segments."""
    chunks = []
    for at, (words, language) in enumerate(said):
        cut = [(word.encode(), data.draw(st.integers(0, len(word.encode())))) for word in words]
        rated = tuple(
            Word(word, at, at + 1, (Token(utf8[:place], -0.5), Token(utf8[place:], -1.5)))
            for word, (utf8, place) in zip(words, cut, strict=True)
        )
        chunks.append(chunk(Segment(at, at + 1, "".join(words), rated), start=at, lang=language))
    transcript = merge(chunks, task="transcribe", language="", diarized=False)
    assert b"".join(token.utf8 for token in transcript.tokens) == transcript.text.encode()
    assert all(token.utf8 for token in transcript.tokens)


def test_names_of_speakers_are_in_no_token() -> None:
    left = chunk(Segment(0, 1, " hi", (Word(" hi", 0, 1, (Token(b" hi", -0.5),)),)), channel=0)
    right = chunk(Segment(2, 3, " ho", (Word(" ho", 2, 3, (Token(b" ho", -0.25),)),)), channel=1)
    transcript = merge([left, right], task="transcribe", language="", diarized=True)
    assert transcript.text == "L: hi\nR: ho"
    assert transcript.tokens == (Token(b"hi", -0.5), Token(b"\nho", -0.25))
