"""A transcript as the bytes of each `response_format`. Pure."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from typing import Any, NotRequired

from talkies_kit.wire import Confidence, Token, Word
from typing_extensions import TypedDict

from talkies import languages
from talkies.asr import subtitles
from talkies.asr.subtitles import Cue, Layout
from talkies.asr.transcript import SPEAKERS, Transcript, TranscriptSegment
from talkies.dialect import DESCRIPTION, Dialect

_NO_CONFIDENCE = Confidence(0.0, 0.0, 0.0)
"""Of an engine that has none, for clients that want numbers."""
_UNTOLD = dict.fromkeys(asdict(_NO_CONFIDENCE))


class UsageBody(TypedDict):
    type: str
    seconds: float


class LanguageBody(TypedDict):
    code: str


class LogprobBody(TypedDict):
    token: str
    bytes: list[int]
    logprob: float


class PlainBody(TypedDict):
    """json."""

    text: str
    languages: NotRequired[list[LanguageBody]]
    logprobs: NotRequired[list[LogprobBody]]
    usage: NotRequired[UsageBody]


class WordBody(TypedDict):
    word: str
    start: float
    end: float
    channel: NotRequired[str]


class SegmentBody(TypedDict):
    id: int
    seek: int
    start: float
    end: float
    text: str
    tokens: list[int]
    temperature: float
    # Null rather than absent in talkies' own dialect, for clients that read the keys.
    avg_logprob: float | None
    compression_ratio: float | None
    no_speech_prob: float | None
    channel: NotRequired[str]


class VerboseBody(TypedDict):
    """verbose_json."""

    task: str
    language: str
    duration: float
    text: str
    segments: list[SegmentBody]
    words: list[WordBody]
    usage: NotRequired[UsageBody]


class DiarizedSegmentBody(TypedDict):
    """A segment of diarized_json, which is also an event of its stream."""

    type: str
    id: str
    start: float
    end: float
    text: str
    speaker: str


class DiarizedBody(TypedDict):
    """diarized_json."""

    task: str
    duration: float
    text: str
    segments: list[DiarizedSegmentBody]
    usage: UsageBody


@dataclass(frozen=True, slots=True)
class Asked:
    """What the request said that its answer shows."""

    temperature: float = 0.0
    speakers: tuple[str, str] = SPEAKERS
    """The names of the left and the right speaker in diarized_json."""
    language: str = ""
    """What verbose_json calls the language, where it is not the transcript's."""
    layout: Layout = subtitles.DEFAULT
    """Of subtitles."""
    dialect: Dialect = DESCRIPTION
    logprobs: bool = False
    """json says how likely each token was."""

    def speaker(self, channel: str | None) -> str:
        return self.speakers[SPEAKERS.index(channel)] if channel in SPEAKERS else ""


@dataclass(frozen=True, slots=True)
class Format:
    """How one `response_format` looks."""

    media_type: str
    render: Callable[[Transcript, Asked], str]
    times: bool = False
    """Whether it shows the times of segments, which cost a model extra work."""
    words: bool = False
    """Whether it shows those of words too."""
    cues: bool = False
    """Whether it is subtitles, which are cut by the times of words."""
    diarized: bool = False
    """Whether it is about who speaks."""
    logprobs: bool = False
    """Whether it can say how likely each token was."""
    streams: bool = False
    """Whether events can carry it; subtitles are files."""
    body: type | None = None
    """The shape of its JSON, if it is that."""


def _json(transcript: Transcript, asked: Asked) -> str:
    body = PlainBody(text=transcript.text)
    if asked.dialect.languages:
        body["languages"] = spoken(transcript)
    if asked.logprobs:
        body["logprobs"] = logprobs(transcript.tokens)
    if asked.dialect.usage:
        body["usage"] = usage(transcript)
    return _dump(body)


def logprobs(tokens: Iterable[Token]) -> list[LogprobBody]:
    """As json and the events of its stream have them; a part of a character is shown as U+FFFD."""
    return [
        {"token": token.utf8.decode(errors="replace"), "bytes": list(token.utf8), "logprob": token.logprob}
        for token in tokens
    ]


def _verbose_json(transcript: Transcript, asked: Asked) -> str:
    return _dump(verbose(transcript, asked))


def verbose(transcript: Transcript, asked: Asked) -> VerboseBody:
    """The fields of verbose_json."""
    dialect = asked.dialect
    spoken = languages.name(transcript.language) if dialect.language_names else transcript.language
    body: VerboseBody = {
        "task": transcript.task,
        "language": asked.language or spoken,
        "duration": transcript.duration,
        "text": transcript.text,
        "segments": [_segment(segment, asked) for segment in transcript.segments],
        "words": [_word(word, channel, dialect) for word, channel in transcript.words],
    }
    if dialect.usage:
        body["usage"] = usage(transcript)
    return body


def _diarized_json(transcript: Transcript, asked: Asked) -> str:
    body: DiarizedBody = {
        "task": transcript.task,
        "duration": transcript.duration,
        "text": transcript.plain,
        "segments": [diarized_segment(segment, asked) for segment in transcript.segments],
        "usage": usage(transcript),
    }
    return _dump(body)


def diarized_segment(segment: TranscriptSegment, asked: Asked) -> DiarizedSegmentBody:
    return {
        "type": "transcript.text.segment",
        "id": f"seg_{segment.id}",
        "start": segment.start,
        "end": segment.end,
        "text": segment.text,
        "speaker": asked.speaker(segment.channel),
    }


def spoken(transcript: Transcript) -> list[LanguageBody]:
    return [LanguageBody(code=transcript.language)] if transcript.language else []


def usage(transcript: Transcript) -> UsageBody:
    return {"type": "duration", "seconds": transcript.duration}


def _segment(segment: TranscriptSegment, asked: Asked) -> SegmentBody:
    told = asdict(segment.confidence or _NO_CONFIDENCE) if asked.dialect.confidences else _UNTOLD
    body: SegmentBody = {
        "id": segment.id,
        "seek": int(segment.start * 100),  # Whisper counts in frames of 10 ms
        "start": segment.start,
        "end": segment.end,
        "text": segment.text,
        "tokens": [],
        "temperature": asked.temperature,
        "avg_logprob": told["avg_logprob"],
        "compression_ratio": told["compression_ratio"],
        "no_speech_prob": told["no_speech_prob"],
    }
    if segment.channel:
        body["channel"] = segment.channel
    return body


def _word(word: Word, channel: str | None, dialect: Dialect) -> WordBody:
    written = word.word.strip() if dialect.bare_words else word.word
    body: WordBody = {"word": written, "start": word.start, "end": word.end}
    if channel:
        body["channel"] = channel
    return body


def _text(transcript: Transcript, _: Asked) -> str:
    return transcript.text


def _srt(transcript: Transcript, asked: Asked) -> str:
    # SubRip knows no escape for the arrow that separates times.
    return "\n".join(
        f"{number}\n{_clock(cue.start, ',')} --> {_clock(cue.end, ',')}\n{_shown(cue).replace('-->', '→')}\n"
        for number, cue in enumerate(subtitles.cues(transcript, asked.layout), start=1)
    )


def _vtt(transcript: Transcript, asked: Asked) -> str:
    cues = (
        f"\n{_clock(cue.start, '.')} --> {_clock(cue.end, '.')}\n{_escape(_shown(cue))}\n"
        for cue in subtitles.cues(transcript, asked.layout)
    )
    return "".join(["WEBVTT\n", *cues])


def _shown(cue: Cue) -> str:
    return "\n".join(cue.lines)


def _escape(text: str) -> str:
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def _clock(seconds: float, decimal_mark: str) -> str:
    milliseconds = round(seconds * 1000)
    minutes, rest = divmod(milliseconds, 60_000)
    hours, minutes = divmod(minutes, 60)
    return f"{hours:02}:{minutes:02}:{rest // 1000:02}{decimal_mark}{rest % 1000:03}"


def _dump(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


FORMATS = {
    "json": Format("application/json", _json, streams=True, logprobs=True, body=PlainBody),
    "text": Format("text/plain; charset=utf-8", _text, streams=True),
    "verbose_json": Format("application/json", _verbose_json, times=True, words=True, streams=True, body=VerboseBody),
    "srt": Format("application/x-subrip; charset=utf-8", _srt, times=True, cues=True),
    "vtt": Format("text/vtt; charset=utf-8", _vtt, times=True, cues=True),
    "diarized_json": Format(
        "application/json", _diarized_json, times=True, diarized=True, streams=True, body=DiarizedBody
    ),
}
