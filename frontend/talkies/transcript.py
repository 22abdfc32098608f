"""Chunks of recognised speech, in any order, become one transcript. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import groupby

from talkies_kit.wire import Segment, Word

_SPEAKERS = {0: "L", 1: "R"}
_UNSPACED = frozenset({"zh", "yue", "ja", "th", "lo", "my", "km", "bo"})
"""Languages that are written without spaces between words."""


@dataclass(frozen=True, slots=True)
class Chunk:
    """What an ASR ensemble answers for one chunk of a file."""

    index: int
    """The chunk's place in the file; -1 for the one empty chunk of a file without speech."""
    channel: int
    """-1 for the mono mix, else the channel the chunk was cut from (0 left, 1 right)."""
    start: float
    """Where the chunk begins in the file, in seconds."""
    duration: float
    """Seconds of audio decoded so far; the largest one of a file is its duration."""
    language: str
    segments: Sequence[Segment]
    """In seconds from the start of the file."""


@dataclass(frozen=True, slots=True)
class TranscriptSegment:
    """A stretch of speech; times in seconds, 0 <= start <= end <= the transcript's duration."""

    id: int
    start: float
    end: float
    text: str
    words: tuple[Word, ...]
    channel: str | None
    """"L" or "R" of a diarized transcript."""


@dataclass(frozen=True, slots=True)
class Transcript:
    """A file's text and timeline."""

    task: str
    """"transcribe" or "translate"."""
    language: str
    """ISO 639-1 code; empty when nothing was said and no language was asked for."""
    duration: float
    """Of the audio, in seconds."""
    text: str
    """All of it; when diarized, one line per turn: "L: ...\\nR: ..."."""
    segments: tuple[TranscriptSegment, ...]
    """By start, ids from 0. Empty when the model tells no times."""

    @property
    def cues(self) -> tuple[TranscriptSegment, ...]:
        """What subtitles show: the segments, or the text over the full length when the model tells no times."""
        if self.segments or not self.text:
            return self.segments
        return (TranscriptSegment(0, 0.0, self.duration, self.text, (), None),)

    @property
    def words(self) -> list[tuple[Word, str | None]]:
        """Every word with its segment's channel, by start."""
        words = [(word, segment.channel) for segment in self.segments for word in segment.words]
        return sorted(words, key=lambda entry: entry[0].start)


def merge(chunks: Iterable[Chunk], *, task: str, language: str, diarized: bool, timestamps: bool = True) -> Transcript:
    """One transcript of a file's chunks.

    `language` is what the caller asked for, empty to take the one most was said in. `timestamps=False` is for models
    that tell no times: their text is kept in the order of the chunks, without segments. Times are rounded to
    milliseconds and kept inside the file; a segment ends at the latest where the next of its channel starts.
    """
    chunks = list(chunks)
    duration = round(max((chunk.duration for chunk in chunks), default=0.0), 3)
    spoken = [
        (segment, _SPEAKERS.get(chunk.channel) if diarized else None)
        for chunk in sorted(chunks, key=lambda chunk: (chunk.start, chunk.channel, chunk.index))
        for segment in chunk.segments
        if segment.text.strip()
    ]
    language = language or _main_language(chunks)
    if timestamps:
        spoken = sorted(
            ((_inside(segment, duration), channel) for segment, channel in spoken), key=lambda entry: entry[0].start
        )
    joint = "" if language in _UNSPACED else " "
    return Transcript(
        task=task,
        language=language,
        duration=duration,
        text=_turns(spoken, joint) if diarized else _join((segment for segment, _ in spoken), joint),
        segments=_timeline(spoken) if timestamps else (),
    )


def _main_language(chunks: Iterable[Chunk]) -> str:
    said: Counter[str] = Counter()
    for chunk in chunks:
        said[chunk.language] += sum(len(segment.text) for segment in chunk.segments)
    del said[""]
    return max(said, key=lambda language: said[language], default="")


def _inside(segment: Segment, duration: float) -> Segment:
    """The segment with its times, and its words' times, within the file and in order."""

    def clip(seconds: float, low: float = 0.0) -> float:
        return round(min(max(seconds, low), duration), 3)

    start = clip(segment.start)
    words = [(word.word, clip(word.start), word.end) for word in segment.words]
    return Segment(
        start, clip(segment.end, start), segment.text, tuple(Word(text, at, clip(end, at)) for text, at, end in words)
    )


def _timeline(spoken: Sequence[tuple[Segment, str | None]]) -> tuple[TranscriptSegment, ...]:
    segments: list[TranscriptSegment] = []
    latest: dict[str | None, int] = {}
    for id_, (segment, channel) in enumerate(spoken):
        # Chunks are padded and a model may date an end beyond its chunk; speech of one channel does not overlap itself.
        if (before := latest.get(channel)) is not None:
            earlier = segments[before]
            if earlier.start < segment.start < earlier.end:
                segments[before] = replace(earlier, end=segment.start)
        latest[channel] = id_
        segments.append(TranscriptSegment(id_, segment.start, segment.end, segment.text, segment.words, channel))
    return tuple(segments)


def _join(segments: Iterable[Segment], joint: str) -> str:
    return joint.join(segment.text.strip() for segment in segments)


def _turns(spoken: Iterable[tuple[Segment, str | None]], joint: str) -> str:
    return "\n".join(
        f"{channel}: {' '.join(_join((segment for segment, _ in turn), joint).split())}"
        for channel, turn in groupby(spoken, key=lambda entry: entry[1])
    )
