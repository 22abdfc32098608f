"""Each response_format, and that subtitles parse back to what went in."""

from __future__ import annotations

import html
import json
import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from talkies.asr import formats
from talkies.asr.formats import Asked
from talkies.asr.subtitles import Layout, cues
from talkies.asr.transcript import Transcript, merge
from talkies.engines.triton import ChunkAnswer
from talkies.errors import BadRequest, choose
from talkies_kit.wire import Segment, Word

TEXT = st.lists(st.text(max_size=5) | st.sampled_from(["-->", "\n\n", "&", "&amp;", "<b>", "1\n"]), max_size=4).map(
    "".join
)
TRANSCRIPTS = st.lists(st.tuples(st.floats(0, 500_000), st.floats(0, 9), TEXT), max_size=8).map(
    lambda cues: merge(
        [
            ChunkAnswer(
                0, -1, 0.0, 500_009.0, "en", [Segment(start, start + length, text) for start, length, text in cues]
            )
        ],
        task="transcribe",
        language="en",
        diarized=False,
    )
)
JFK = merge(
    [
        ChunkAnswer(
            0, -1, 0.0, 2.5, "en", [Segment(0.25, 1.5, " Ask not", (Word(" Ask", 0.25, 0.5), Word(" not", 0.5, 1.5)))]
        )
    ],
    task="transcribe",
    language="en",
    diarized=False,
)
STEREO = merge(
    [
        ChunkAnswer(0, 0, 0.0, 4.0, "en", [Segment(0, 1, " hi", (Word(" hi", 0, 1),))]),
        ChunkAnswer(1, 1, 1.0, 4.0, "en", [Segment(1, 2, " you")]),
    ],
    task="transcribe",
    language="en",
    diarized=True,
)


def render(name: str, transcript: Transcript, **asked: Any) -> str:
    return formats.FORMATS[name].render(transcript, Asked(**asked))


def one_line(text: str) -> str:
    return " ".join(text.split())


def clock(text: str) -> int:
    hours, minutes, seconds, milliseconds = map(int, re.fullmatch(r"(\d{2,}):(\d\d):(\d\d)[,.](\d{3})", text).groups())  # type: ignore[union-attr]
    return ((hours * 60 + minutes) * 60 + seconds) * 1000 + milliseconds


def parse_cues(text: str) -> list[tuple[int, int, str]]:
    """A strict reader: blocks between blank lines, an optional number, a time line, lines of text."""
    cues: list[tuple[int, int, str]] = []
    for block in text.strip("\n").split("\n\n") if text.strip("\n") else []:
        lines = block.split("\n")
        if lines[0].isdecimal():
            assert int(lines.pop(0)) == len(cues) + 1
        times, said = lines[0], one_line(" ".join(lines[1:]))
        assert "-->" not in said
        start, end = times.split(" --> ")
        cues.append((clock(start), clock(end), said))
    return cues


def expected(transcript: Transcript) -> list[tuple[int, int, str]]:
    found = cues(transcript, Layout())
    return [(round(cue.start * 1000), round(cue.end * 1000), one_line(" ".join(cue.lines))) for cue in found]


@given(TRANSCRIPTS)
def test_srt_parses_back(transcript: Transcript) -> None:
    want = [(start, end, text.replace("-->", "→")) for start, end, text in expected(transcript)]
    assert parse_cues(render("srt", transcript)) == want


@given(TRANSCRIPTS)
def test_vtt_parses_back(transcript: Transcript) -> None:
    head, _, body = render("vtt", transcript).partition("\n")
    assert head == "WEBVTT"
    got = [(start, end, html.unescape(text)) for start, end, text in parse_cues(body)]
    # html.unescape knows more entities than WebVTT; escaping the ampersand makes them the same.
    assert got == expected(transcript)


@given(TRANSCRIPTS)
def test_json_formats_parse_back(transcript: Transcript) -> None:
    assert json.loads(render("json", transcript)) == {"text": transcript.text}
    verbose = json.loads(render("verbose_json", transcript))
    assert [s["text"] for s in verbose["segments"]] == [s.text for s in transcript.segments]
    assert render("text", transcript) == transcript.text


def test_verbose_json() -> None:
    assert json.loads(render("verbose_json", JFK, temperature=0.4)) == {
        "task": "transcribe",
        "language": "en",
        "duration": 2.5,
        "text": "Ask not",
        "segments": [
            {
                "id": 0,
                "seek": 25,
                "start": 0.25,
                "end": 1.5,
                "text": " Ask not",
                "tokens": [],
                "temperature": 0.4,
                "avg_logprob": None,
                "compression_ratio": None,
                "no_speech_prob": None,
            }
        ],
        "words": [{"word": " Ask", "start": 0.25, "end": 0.5}, {"word": " not", "start": 0.5, "end": 1.5}],
    }


def test_diarized_formats() -> None:
    verbose = json.loads(render("verbose_json", STEREO))
    assert [s["channel"] for s in verbose["segments"]] == ["L", "R"]
    assert verbose["words"] == [{"word": " hi", "start": 0.0, "end": 1.0, "channel": "L"}]
    assert render("text", STEREO) == verbose["text"] == "L: hi\nR: you"
    assert render("srt", STEREO) == (
        "1\n00:00:00,000 --> 00:00:01,000\nL: hi\n\n2\n00:00:01,000 --> 00:00:02,000\nR: you\n"
    )
    assert render("vtt", STEREO) == (
        "WEBVTT\n\n00:00:00.000 --> 00:00:01.000\nL: hi\n\n00:00:01.000 --> 00:00:02.000\nR: you\n"
    )


def test_diarized_json() -> None:
    assert json.loads(render("diarized_json", STEREO)) == {
        "task": "transcribe",
        "duration": 4.0,
        "text": "hi you",
        "segments": [
            {"type": "transcript.text.segment", "id": "seg_0", "start": 0, "end": 1, "text": " hi", "speaker": "L"},
            {"type": "transcript.text.segment", "id": "seg_1", "start": 1, "end": 2, "text": " you", "speaker": "R"},
        ],
        "usage": {"type": "duration", "seconds": 4.0},
    }
    named = json.loads(render("diarized_json", STEREO, speakers=("Ann", "Bob")))
    assert [segment["speaker"] for segment in named["segments"]] == ["Ann", "Bob"]
    assert render("text", STEREO).startswith("L: ")


def test_the_language_of_a_translation() -> None:
    assert json.loads(render("verbose_json", JFK, language="english"))["language"] == "english"


def test_without_times_subtitles_are_one_cue() -> None:
    chunks = [ChunkAnswer(0, -1, 0.0, 360_000.5, "en", [Segment(0, 0, "all of it")])]
    transcript = merge(chunks, task="transcribe", language="en", diarized=False, timestamps=False)
    assert render("srt", transcript) == "1\n00:00:00,000 --> 100:00:00,500\nall of it\n"
    verbose = json.loads(render("verbose_json", transcript))
    assert (verbose["segments"], verbose["words"], verbose["text"]) == ([], [], "all of it")


def test_silence_is_an_empty_transcript() -> None:
    silence = merge([ChunkAnswer(-1, -1, 0, 3.0, "", [])], task="transcribe", language="", diarized=False)
    assert {name: render(name, silence) for name in ("json", "text", "srt", "vtt")} == {
        "json": '{"text":""}',
        "text": "",
        "srt": "",
        "vtt": "WEBVTT\n",
    }


def test_only_verbose_json_asks_for_words() -> None:
    assert [name for name, form in formats.FORMATS.items() if form.words] == ["verbose_json"]


def test_an_unknown_format_is_refused_with_the_list() -> None:
    with pytest.raises(BadRequest, match="json, text, verbose_json, srt, vtt, diarized_json") as caught:
        choose(formats.FORMATS, "docx", "response_format")
    assert caught.value.param == "response_format"
