"""Chunks of recognised speech, in any order, become one transcript. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from talkies_kit.wire import Confidence, Segment, Token, Word

from talkies.engines.triton import ChunkAnswer

SPEAKERS = ("L", "R")
"""The speakers of channel 0 and channel 1."""
_UNSPACED = frozenset({"zh", "yue", "ja", "th", "lo", "my", "km", "bo"})
"""Languages that are written without spaces between words."""


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
    confidence: Confidence | None = None


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
    plain: str
    """All of it without line breaks and names between turns."""
    segments: tuple[TranscriptSegment, ...]
    """By start, ids from 0. Empty when the model tells no times."""
    tokens: tuple[Token, ...] = ()
    """If they were asked for; joined they are the text, but for the names of speakers and breaks in a turn."""

    @property
    def words(self) -> list[tuple[Word, str | None]]:
        """Every word with its segment's channel, by start."""
        words = [(word, segment.channel) for segment in self.segments for word in segment.words]
        return sorted(words, key=lambda entry: entry[0].start)


@dataclass(frozen=True, slots=True)
class Placed:
    """A segment in its place on the file's timeline."""

    segment: Segment
    channel: int
    unspaced: bool
    """Its language is written without spaces."""

    @property
    def order(self) -> tuple[float, int]:
        """Where it comes in the transcript, among those of other channels."""
        return self.segment.start, self.channel

    @property
    def speaker(self) -> str:
        return SPEAKERS[self.channel]


def place(chunk: ChunkAnswer, *, since: float, written: str, timestamps: bool) -> list[Placed]:
    """What a chunk holds, in order; its segments depend on no later chunk but for where the last one ends.

    Times are rounded to milliseconds and kept between the chunk's start and what was decoded of the file with it.
    `since` is where the last segment of the same channel starts, before which none of this one does. `written` is the
    language of the text where it is not the one that was spoken. Without `timestamps` all stand at the chunk's start.
    """
    low = since

    def clip(seconds: float) -> float:
        return round(max(min(max(seconds, chunk.start), chunk.duration), low), 3)

    placed = []
    said = [segment for segment in chunk.segments if segment.text.strip()]
    for segment in sorted(said, key=lambda segment: segment.start) if timestamps else said:
        low = start = clip(segment.start if timestamps else chunk.start)
        words = tuple(
            replace(word, start=(at := clip(word.start)), end=max(at, clip(word.end)))
            for word in segment.words
            if timestamps
        )
        end = clip(segment.end) if timestamps else start
        unspaced = (written or chunk.language) in _UNSPACED
        heard = replace(segment, start=start, end=end, words=words)
        placed.append(Placed(heard, chunk.channel, unspaced))
    return placed


class Script:
    """Segments in order as text: what each adds to it. With `turns`, every turn has a line and its speaker's name."""

    def __init__(self, *, turns: bool) -> None:
        self._turns = turns
        self._before: Placed | None = None

    def add(self, placed: Placed) -> str:
        before, self._before = self._before, placed
        text = placed.segment.text.strip()
        if self._turns:
            text = " ".join(text.split())
            if before is None or before.channel != placed.channel:
                return f"{chr(10) if before else ''}{placed.speaker}: {text}"
        if before is None:
            return text
        return text if before.unspaced and placed.unspaced else f" {text}"


def tokens(placed: Placed, piece: str) -> list[Token]:
    """Those of a segment that makes `piece` of the text: joined they are that, but for what a turn begins with."""
    own = [token for word in placed.segment.words for token in word.tokens]
    joined = b"".join(token.utf8 for token in own)
    whole = joined.decode(errors="replace")
    first = len(whole[: len(whole) - len(whole.lstrip())].encode())
    last = len(joined) - len(whole[len(whole.rstrip()) :].encode())
    found: list[Token] = []
    at = 0
    for token in own:
        if shown := token.utf8[max(first - at, 0) : max(last - at, 0)]:
            found.append(replace(token, utf8=shown))
        at += len(token.utf8)
    if found and piece[0].isspace():
        found[0] = replace(found[0], utf8=piece[0].encode() + found[0].utf8)
    return found


def merge(
    chunks: Iterable[ChunkAnswer],
    *,
    task: str,
    language: str,
    diarized: bool,
    timestamps: bool = True,
    written: str = "",
) -> Transcript:
    """One transcript of a file's chunks.

    `language` is what the caller asked for, empty to take the one most was said in; `written` is the language of a
    translation. `timestamps=False` is for models that tell no times: their text is kept in the order of the chunks,
    without segments. A segment ends at the latest where the next of its channel starts.
    """
    chunks = sorted(chunks, key=lambda chunk: (chunk.start, chunk.index))
    latest: dict[int, float] = {}
    placed: list[Placed] = []
    for chunk in chunks:
        found = place(chunk, since=latest.get(chunk.channel, 0.0), written=written or language, timestamps=timestamps)
        if found:
            latest[chunk.channel] = found[-1].segment.start
        placed += found
    placed.sort(key=lambda entry: entry.order)
    text, plain = Script(turns=diarized), Script(turns=False)
    pieces = [text.add(entry) for entry in placed]
    return Transcript(
        task=task,
        language=language or _main_language(chunks),
        duration=round(max((chunk.duration for chunk in chunks), default=0.0), 3),
        text="".join(pieces),
        plain="".join(map(plain.add, placed)),
        segments=_timeline(placed, diarized) if timestamps else (),
        tokens=tuple(token for entry, piece in zip(placed, pieces, strict=True) for token in tokens(entry, piece)),
    )


def _main_language(chunks: Iterable[ChunkAnswer]) -> str:
    said: Counter[str] = Counter()
    for chunk in chunks:
        said[chunk.language] += sum(len(segment.text) for segment in chunk.segments)
    del said[""]
    return max(said, key=lambda language: said[language], default="")


def _timeline(placed: Sequence[Placed], diarized: bool) -> tuple[TranscriptSegment, ...]:
    segments: list[TranscriptSegment] = []
    latest: dict[int, int] = {}
    for id_, entry in enumerate(placed):
        # Chunks are padded and a model may date an end beyond its chunk; speech of one channel does not overlap itself.
        if (before := latest.get(entry.channel)) is not None:
            segments[before] = replace(segments[before], end=cut(segments[before], entry.segment))
        latest[entry.channel] = id_
        segments.append(shown(id_, entry, diarized))
    return tuple(segments)


def cut(earlier: Segment | TranscriptSegment, later: Segment) -> float:
    """Where `earlier` ends when `later` is the next of its channel."""
    return later.start if earlier.start < later.start < earlier.end else earlier.end


def shown(id_: int, placed: Placed, diarized: bool) -> TranscriptSegment:
    segment = placed.segment
    channel = placed.speaker if diarized else None
    return TranscriptSegment(id_, segment.start, segment.end, segment.text, segment.words, channel, segment.confidence)
