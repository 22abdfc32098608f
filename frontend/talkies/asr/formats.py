"""A transcript as the bytes of each `response_format`. Pure."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from talkies.errors import BadRequest
from talkies.transcript import SPEAKERS, Transcript, TranscriptSegment


@dataclass(frozen=True, slots=True)
class Asked:
    """What the request said that its answer shows."""

    temperature: float = 0.0
    speakers: tuple[str, str] = SPEAKERS
    """The names of the left and the right speaker in diarized_json."""
    language: str = ""
    """What verbose_json calls the language, where it is not the transcript's."""

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
    diarized: bool = False
    """Whether it is about who speaks."""
    streams: bool = False
    """Whether events can carry it; subtitles are files."""


def find(name: str) -> Format:
    """The format of that name. Raises BadRequest, which lists them."""
    try:
        return FORMATS[name]
    except KeyError:
        raise BadRequest(
            f"Unknown response_format {name!r}; choose one of {', '.join(FORMATS)}.", param="response_format"
        ) from None


def _json(transcript: Transcript, _: Asked) -> str:
    return _dump({"text": transcript.text})


def _verbose_json(transcript: Transcript, asked: Asked) -> str:
    return _dump(verbose(transcript, asked))


def verbose(transcript: Transcript, asked: Asked) -> dict[str, Any]:
    """The fields of verbose_json."""
    return {
        "task": transcript.task,
        "language": asked.language or transcript.language,
        "duration": transcript.duration,
        "text": transcript.text,
        "segments": [_segment(segment, asked.temperature) for segment in transcript.segments],
        "words": [
            {"word": word.word, "start": word.start, "end": word.end, **_channel(channel)}
            for word, channel in transcript.words
        ],
    }


def _diarized_json(transcript: Transcript, asked: Asked) -> str:
    return _dump(
        {
            "task": transcript.task,
            "duration": transcript.duration,
            "text": transcript.plain,
            "segments": [diarized_segment(segment, asked) for segment in transcript.segments],
            "usage": usage(transcript),
        }
    )


def diarized_segment(segment: TranscriptSegment, asked: Asked) -> dict[str, Any]:
    """A segment of diarized_json, which is also an event of its stream."""
    return {
        "type": "transcript.text.segment",
        "id": f"seg_{segment.id}",
        "start": segment.start,
        "end": segment.end,
        "text": segment.text,
        "speaker": asked.speaker(segment.channel),
    }


def usage(transcript: Transcript) -> dict[str, Any]:
    return {"type": "duration", "seconds": transcript.duration}


def _segment(segment: TranscriptSegment, temperature: float) -> dict[str, Any]:
    return {
        "id": segment.id,
        "seek": int(segment.start * 100),  # Whisper counts in frames of 10 ms
        "start": segment.start,
        "end": segment.end,
        "text": segment.text,
        "tokens": [],
        "temperature": temperature,
        # Not every model has confidences; null rather than absent, for clients that read the keys.
        "avg_logprob": None,
        "compression_ratio": None,
        "no_speech_prob": None,
        **_channel(segment.channel),
    }


def _channel(channel: str | None) -> dict[str, str]:
    return {"channel": channel} if channel else {}


def _text(transcript: Transcript, _: Asked) -> str:
    return transcript.text


def _srt(transcript: Transcript, _: Asked) -> str:
    # SubRip knows no escape for the arrow that separates times.
    return "\n".join(
        f"{number}\n{_clock(cue.start, ',')} --> {_clock(cue.end, ',')}\n{_cue_text(cue).replace('-->', '→')}\n"
        for number, cue in enumerate(transcript.cues, start=1)
    )


def _vtt(transcript: Transcript, _: Asked) -> str:
    cues = (
        f"\n{_clock(cue.start, '.')} --> {_clock(cue.end, '.')}\n{_escape(_cue_text(cue))}\n" for cue in transcript.cues
    )
    return "".join(["WEBVTT\n", *cues])


def _cue_text(cue: TranscriptSegment) -> str:
    # A blank line would end the cue, so every line is rebuilt; only turns of an untimed transcript are several.
    text = "\n".join(" ".join(line.split()) for line in cue.text.split("\n") if line.strip())
    return f"{cue.channel}: {text}" if cue.channel else text


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
    "json": Format("application/json", _json, streams=True),
    "text": Format("text/plain; charset=utf-8", _text, streams=True),
    "verbose_json": Format("application/json", _verbose_json, times=True, words=True, streams=True),
    "srt": Format("application/x-subrip; charset=utf-8", _srt, times=True),
    "vtt": Format("text/vtt; charset=utf-8", _vtt, times=True),
    "diarized_json": Format("application/json", _diarized_json, times=True, diarized=True, streams=True),
}
