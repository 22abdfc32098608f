"""A second look at speech for which an engine has found no words. Pure but for the engine's own call."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

from talkies_kit import coverage
from talkies_kit.asr import Hypothesis, Stretch
from talkies_kit.coverage import FRAME, Gap
from talkies_kit.wire import SPEECH_FRAME, Segment, Word

Decode = Callable[[Sequence[Stretch]], Sequence[Hypothesis]]
"""One hypothesis per stretch, in order, with words in all segments if there are times."""


def heard(batch: Sequence[Stretch], decode: Decode) -> list[Hypothesis]:
    """What `decode` makes of the batch, and once more, by itself, of speech that has no words.

    What has none after that is `Hypothesis.unheard`. There is no second look where it is not known when somebody
    speaks, or when words were said. No call is for more stretches than the batch. Words stay where they were asked for.
    """
    found = list(decode(batch))
    parts = [
        (i, gap, _part(stretch, gap)) for i, stretch in enumerate(batch) for gap in _gaps(stretch, found[i].segments)
    ]
    for begin in range(0, len(parts), len(batch)):
        some = parts[begin : begin + len(batch)]
        for (i, gap, _), more in zip(some, decode([part for _, _, part in some]), strict=True):
            found[i] = replace(found[i], segments=_filled(found[i].segments, gap, more.segments))
    return [
        replace(
            hypothesis,
            segments=[_asked(segment, stretch) for segment in hypothesis.segments],
            unheard=sum(gap.speech for gap in _gaps(stretch, hypothesis.segments)),
        )
        for stretch, hypothesis in zip(batch, found, strict=True)
    ]


def _gaps(stretch: Stretch, segments: Sequence[Segment]) -> list[Gap]:
    if stretch.speech is None or not all(segment.words for segment in segments):
        return []
    return coverage.gaps(stretch.speech, _words(segments))


def _part(stretch: Stretch, gap: Gap) -> Stretch:
    """The sound of a gap."""
    begin, end = round(gap.start / FRAME), round(gap.end / FRAME)
    speech = None if stretch.speech is None else stretch.speech[begin:end]
    return replace(stretch, samples=stretch.samples[begin * SPEECH_FRAME : end * SPEECH_FRAME], speech=speech)


def _filled(segments: Sequence[Segment], gap: Gap, found: Sequence[Segment]) -> list[Segment]:
    """The segments with what was found in a gap between their words."""
    before: list[Segment] = []
    after: list[Segment] = []
    for segment in segments:
        first, second = coverage.place(segment.words, gap)
        before += _of(segment, first)
        after += _of(segment, second)
    moved = [segment.shifted(gap.start) for segment in found]
    kept = coverage.without_repeats(_words(before), _words(moved), _words(after), gap)
    new = [part for segment in moved for part in _of(segment, [word for word in segment.words if word in kept])]
    return [*before, *new, *after]


def _of(segment: Segment, words: Sequence[Word]) -> list[Segment]:
    """Of a segment these words; all of it with its text as it is, none if it has none of them."""
    if not words:
        return []
    changed = replace(segment, start=words[0].start, end=words[-1].end, words=tuple(words))
    if len(words) < len(segment.words):
        changed = replace(changed, text=" ".join(word.word.strip() for word in words))
    return [changed]


def _words(segments: Sequence[Segment]) -> list[Word]:
    return [word for segment in segments for word in segment.words]


def _asked(segment: Segment, stretch: Stretch) -> Segment:
    return segment if stretch.options.word_timestamps else replace(segment, words=())
