"""A transcript as the bytes of each `response_format`. Pure."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from talkies.errors import BadRequest
from talkies.transcript import Transcript, TranscriptSegment


@dataclass(frozen=True, slots=True)
class Format:
    """How one `response_format` looks."""

    media_type: str
    render: Callable[[Transcript, float], str]
    """From the transcript and the temperature it was made with."""
    times: bool = False
    """Whether it shows the times of segments, which cost a model extra work."""
    words: bool = False
    """Whether it shows those of words too."""


def find(name: str) -> Format:
    """The format of that name. Raises BadRequest, which lists them."""
    try:
        return FORMATS[name]
    except KeyError:
        raise BadRequest(
            f"Unknown response_format {name!r}; choose one of {', '.join(FORMATS)}.", param="response_format"
        ) from None


def _json(transcript: Transcript, _: float) -> str:
    return _dump({"text": transcript.text})


def _verbose_json(transcript: Transcript, temperature: float) -> str:
    return _dump(
        {
            "task": transcript.task,
            "language": transcript.language,
            "duration": transcript.duration,
            "text": transcript.text,
            "segments": [_segment(segment, temperature) for segment in transcript.segments],
            "words": [
                {"word": word.word, "start": word.start, "end": word.end, **_channel(channel)}
                for word, channel in transcript.words
            ],
        }
    )


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


def _text(transcript: Transcript, _: float) -> str:
    return transcript.text


def _srt(transcript: Transcript, _: float) -> str:
    # SubRip knows no escape for the arrow that separates times.
    return "\n".join(
        f"{number}\n{_clock(cue.start, ',')} --> {_clock(cue.end, ',')}\n{_cue_text(cue).replace('-->', '→')}\n"
        for number, cue in enumerate(transcript.cues, start=1)
    )


def _vtt(transcript: Transcript, _: float) -> str:
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
    "json": Format("application/json", _json),
    "text": Format("text/plain; charset=utf-8", _text),
    "verbose_json": Format("application/json", _verbose_json, times=True, words=True),
    "srt": Format("application/x-subrip; charset=utf-8", _srt, times=True),
    "vtt": Format("text/vtt; charset=utf-8", _vtt, times=True),
}
