"""Pieces of a transcript in the making are those of the finished one, whatever order the chunks arrive in."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from talkies.asr.progress import Progress, Update
from talkies.asr.transcript import merge
from talkies.engines.triton import ChunkAnswer
from talkies_kit.wire import Segment, Token, Word

LONGEST, SETTLING = 28.0, 3.0
HORIZON = LONGEST + SETTLING + 0.5


def seconds(low: float, high: float) -> st.SearchStrategy[float]:
    return st.floats(low, high).map(lambda value: round(value, 2))


@st.composite
def recordings(draw: st.DrawFn, channels: tuple[int, ...] = (0, 1)) -> list[ChunkAnswer]:
    """Chunks as `audio_chunks` numbers them; the times in them are as wrong as an engine likes."""
    found: list[tuple[float, float, int]] = []
    for channel in channels:
        at = settled = 0.0
        for gap, length, delay in draw(
            st.lists(st.tuples(seconds(0, 40), seconds(0.1, LONGEST), seconds(0, SETTLING)), max_size=5)
        ):
            start, at = at + gap, at + gap + length
            settled = max(settled, at + delay)
            found.append((settled, start, channel))
    chunks = []
    for index, (decoded, start, channel) in enumerate(sorted(found)):
        times = st.floats(start - 2, decoded + 2)
        tokens = st.lists(st.builds(Token, st.binary(max_size=3), st.just(-1.0)), max_size=2).map(tuple)
        text = st.text("ab ", min_size=1, max_size=3)
        words = st.lists(st.builds(Word, text, times, times, tokens), max_size=2).map(tuple)
        segments = st.lists(st.builds(Segment, times, times, st.text("ab \n", max_size=4), words), max_size=3)
        language = draw(st.sampled_from(["", "en", "zh"]))
        chunks.append(ChunkAnswer(index, channel, start, decoded, language, draw(segments)))
    return chunks


def followed(chunks: list[ChunkAnswer], **how: Any) -> tuple[list[Update], int]:
    """All updates, and how many came before the end."""
    progress = Progress(horizon=HORIZON, **how)
    updates = [update for chunk in chunks for update in progress.add(chunk)]
    early = len(updates)
    return [*updates, *progress.finish()], early


@given(st.data(), st.booleans(), st.sampled_from(["", "en", "zh"]), st.sampled_from(["", "en"]))
def test_pieces_in_any_order_are_the_merged_transcript(
    data: st.DataObject, timestamps: bool, language: str, written: str
) -> None:
    diarized = data.draw(st.booleans())
    chunks = data.draw(recordings() if diarized else recordings((-1,)))
    how: dict[str, Any] = {"language": language, "diarized": diarized, "timestamps": timestamps, "written": written}
    updates, _ = followed(data.draw(st.permutations(chunks)), **how)
    transcript = merge(chunks, task="transcribe", **how)
    assert "".join(update.text for update in updates) == transcript.text
    assert "".join(update.plain for update in updates) == transcript.plain
    assert tuple(token for update in updates for token in update.tokens) == transcript.tokens
    assert all((update.segment is not None) == (diarized and timestamps) for update in updates)
    if diarized:
        assert tuple(update.segment for update in updates if update.segment) == transcript.segments


def chunk(index: int, channel: int, start: float, decoded: float, *segments: Segment) -> ChunkAnswer:
    return ChunkAnswer(index, channel, start, decoded, "en", segments)


def test_a_chunk_waits_for_its_predecessors_only() -> None:
    progress = Progress(language="", diarized=False, horizon=HORIZON)
    assert progress.add(chunk(1, -1, 10, 20, Segment(10, 12, " two"))) == []
    assert [p.text for p in progress.add(chunk(0, -1, 0, 10, Segment(0, 5, " one")))] == ["one", " two"]
    assert [p.text for p in progress.add(chunk(2, -1, 20, 30, Segment(20, 31, " three")))] == [" three"]
    assert progress.finish() == []


def test_a_silent_channel_holds_the_other_one_back_only_so_long() -> None:
    """Somebody talks for minutes and the other one listens."""
    talk = [chunk(i, 0, 20.0 * i, 20.0 * (i + 1), Segment(20.0 * i, 20.0 * i + 15, f" {i}")) for i in range(9)]
    updates, early = followed(talk, language="", diarized=True)
    assert early == 8
    assert "".join(update.text for update in updates) == "L: 0 1 2 3 4 5 6 7 8"


def test_turns_come_in_the_order_of_the_dialogue() -> None:
    """A long turn is settled after the short one that lies within it."""
    short = chunk(0, 1, 5, 8, Segment(5, 6, " yes"))
    long = chunk(1, 0, 0, 25, Segment(0, 4, " well"), Segment(7, 24, " so"))
    updates, early = followed([short, long], language="", diarized=True)
    assert early == 1
    assert [update.text for update in updates] == ["L: well", "\nR: yes", "\nL: so"]
    assert [update.plain for update in updates] == ["well", " yes", " so"]
    assert [(update.segment.id, update.segment.channel) for update in updates if update.segment] == [
        (0, "L"),
        (1, "R"),
        (2, "L"),
    ]


def test_too_near_a_horizon_costs_the_order_but_no_words() -> None:
    """An outside tritonserver may cut longer chunks than this facade was told."""
    chunks = [chunk(0, 0, 30, 36, Segment(30, 35, " b")), chunk(1, 0, 60, 64), chunk(2, 1, 5, 66, Segment(5, 40, "a"))]
    progress = Progress(language="", diarized=True, horizon=20)
    updates = [update.text for each in chunks for update in progress.add(each)]
    assert updates == ["L: b", "\nR: a"]


def test_silence() -> None:
    updates, _ = followed([ChunkAnswer(-1, -1, 0, 3.5, "", [])], language="", diarized=True)
    assert updates == []
