"""Subtitles: nothing is lost, nothing is too large or overlaps, and lines end where a reader would end them."""

from __future__ import annotations

from itertools import pairwise

from hypothesis import given, settings
from hypothesis import strategies as st
from talkies.asr.subtitles import SHORTEST, Cue, Layout, cues
from talkies.asr.transcript import Transcript, merge
from talkies.asr.wording import width
from talkies.engines.triton import ChunkAnswer
from talkies_kit.wire import Segment, Word

WORDS = st.sampled_from(
    ["a", "the", "Mr.", "Dr.", "end.", "well,", "and", "extraordinarily", "No!", "\u201cso\u201d", "1945"]
) | st.text("abcdefgäöüéß", min_size=1, max_size=60)
CHINESE = st.sampled_from([*"我们今天去公园散步。\uff0c\uff01「」のがアーっ", "天气", "非常好。"])


def spoken(words: list[str], *, step: float = 0.3, pauses: dict[int, float] | None = None) -> Transcript:
    """A transcript of one segment whose words take `step` seconds each, with pauses before some."""
    at, timed = 0.5, []
    for i, word in enumerate(words):
        at += (pauses or {}).get(i, 0.0)
        timed.append(Word(word, at, at + step))
        at += step
    return transcript([Segment(timed[0].start, timed[-1].end, "".join(words), tuple(timed))], at + 1)


def transcript(segments: list[Segment], duration: float, *, channel: int = -1) -> Transcript:
    chunk = ChunkAnswer(0, channel, 0.0, duration, "en", segments)
    return merge([chunk], task="transcribe", language="en", diarized=channel >= 0)


def english(text: str, **how: object) -> Transcript:
    return spoken([f" {word}" for word in text.split()], **how)  # type: ignore[arg-type]


def shown(found: list[Cue]) -> list[tuple[str, ...]]:
    return [cue.lines for cue in found]


@st.composite
def segments(draw: st.DrawFn) -> list[Segment]:
    """Segments in order, with word times, without, or with words that their text does not show."""
    at, made = 0.0, []
    for _ in range(draw(st.integers(1, 6))):
        unspaced = draw(st.booleans())
        texts = draw(st.lists(CHINESE if unspaced else WORDS, min_size=1, max_size=40))
        timed = []
        for text in texts:
            at += draw(st.sampled_from([0.0, 0.0, 0.0, 0.1, 0.4, 1.0, 3.0]))
            timed.append(Word(text if unspaced else f" {text}", at, at := at + draw(st.floats(0.0, 1.5))))
        has_words = draw(st.booleans())
        text = "".join(word.word for word in timed)
        made.append(Segment(timed[0].start, at, text, tuple(timed) if has_words else ()))
    return made


LAYOUTS = st.builds(Layout, st.integers(10, 80), st.integers(1, 4), st.floats(1, 20))


@settings(deadline=None)
@given(segments(), LAYOUTS)
def test_nothing_is_lost_too_large_or_overlaps(spoken: list[Segment], layout: Layout) -> None:
    heard = transcript(spoken, spoken[-1].end + 2)
    found = cues(heard, layout)
    said = "".join("".join(cue.lines) for cue in found)
    assert said.replace(" ", "") == heard.text.replace(" ", "")
    for cue in found:
        assert 1 <= len(cue.lines) <= layout.lines
        assert all(line == line.strip() and 0 < width(line) <= layout.width for line in cue.lines)
        assert 0 <= cue.start <= cue.end <= heard.duration
        assert cue.end - cue.start <= layout.seconds + 1e-6
    for before, after in pairwise(found):
        assert before.end <= after.start


@settings(deadline=None)
@given(segments(), LAYOUTS)
def test_a_cue_is_brief_only_where_there_is_no_room(spoken: list[Segment], layout: Layout) -> None:
    heard = transcript(spoken, spoken[-1].end + 2)
    found = cues(heard, layout)
    for i, cue in enumerate(found):
        if cue.end - cue.start < SHORTEST - 1e-6:
            low = found[i - 1].end if i else 0.0
            high = found[i + 1].start if i + 1 < len(found) else heard.duration
            assert cue.start - low < 1e-6 and high - cue.end < 1e-6


PHRASES = ["I saw", "Mr. Thornton,", "who smiled at", "Dr. J. Smith.", "Then", "Mrs. Hale", "came,"]


@settings(deadline=None)
@given(st.lists(st.sampled_from(PHRASES), min_size=1, max_size=40))
def test_no_line_ends_after_a_title(phrases: list[str]) -> None:
    for cue in cues(english(" ".join(phrases)), Layout()):
        assert not any(line.endswith(("Mr.", "Dr.", "Mrs.", "J.")) for line in cue.lines)


def test_a_sentence_is_cut_at_its_clauses_in_even_lines() -> None:
    text = (
        "I could not help watching your face with some anxiety, when Mr. Thornton made his confession of having been "
        "a shop boy, and you don't mean that you thought me so silly."
    )
    found = cues(english(text), Layout())
    assert shown(found) == [
        ("I could not help watching", "your face with some anxiety,"),
        ("when Mr. Thornton made his confession", "of having been a shop boy,"),
        ("and you don't mean", "that you thought me so silly."),
    ]


def test_short_sentences_share_a_cue_and_long_ones_do_not() -> None:
    assert shown(cues(english("Yes. No. Never."), Layout())) == [("Yes. No. Never.",)]
    long = "The old clock on the wall had stopped. Nobody in the house knew why."
    assert [" ".join(cue.lines) for cue in cues(english(long, step=0.4), Layout())] == [
        "The old clock on the wall had stopped.",
        "Nobody in the house knew why.",
    ]


def test_no_cue_reaches_over_a_long_pause() -> None:
    found = cues(english("one two three four", pauses={2: 4.0}), Layout())
    assert shown(found) == [("one two",), ("three four",)]
    assert found[0].end - found[0].start >= SHORTEST and found[0].end < found[1].start


def test_wide_characters_count_twice() -> None:
    text = list("我们今天去公园散步\uff0c天气非常好\uff0c大家都很高兴\uff0c晚上再一起回家吃饭。")
    for cue in cues(spoken(text), Layout(width=20)):
        assert all(width(line) <= 20 and line[0] not in "\uff0c。" for line in cue.lines)
    assert width("日本") == 4 and width("e\u0301") == 1 and width("ｶ") == 1


def test_two_who_speak_at_once_take_turns() -> None:
    chunks = [
        ChunkAnswer(0, 0, 0.0, 5.0, "en", [Segment(0, 4, " left all the time")]),
        ChunkAnswer(1, 1, 1.0, 5.0, "en", [Segment(1, 2, " right")]),
    ]
    found = cues(merge(chunks, task="transcribe", language="en", diarized=True), Layout())
    assert shown(found) == [("L: left all the time",), ("R: right",)]
    assert found[0].end == found[1].start == 1.0


def test_the_speaker_is_in_the_first_line_of_each_cue() -> None:
    words = [Word(f" {word}", i * 0.4, i * 0.4 + 0.4) for i, word in enumerate(["walking"] * 30)]
    heard = transcript([Segment(0, 12, "".join(w.word for w in words), tuple(words))], 12.0, channel=1)
    found = cues(heard, Layout())
    assert len(found) > 1
    for cue in found:
        assert cue.lines[0].startswith("R: ") and not any(line.startswith("R: ") for line in cue.lines[1:])
        assert all(width(line) <= 42 for line in cue.lines)
