"""Hears stretches of speech window by window, and again where somebody speaks and no word is."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from faster_whisper import WhisperModel
from faster_whisper.tokenizer import Tokenizer
from numpy.typing import NDArray
from talkies_kit import coverage
from talkies_kit.asr import Samples
from talkies_kit.coverage import FRAME, Gap
from talkies_kit.wire import SAMPLE_RATE, AsrOptions, Confidence, Segment, Word

from . import tongues, words
from .decoder import WINDOW, Decoder, Encoded
from .evidence import Evidence
from .loudness import tightened
from .noise import is_noise, needs_proof
from .sentences import sentences
from .speech import speech
from .text import Text
from .timeline import Span, split
from .tokens import spread
from .tongues import Part

SHORTEST_REST = 1.0
"""Seconds after the last timestamp that are worth another look."""
LOOKS = 2
"""How often what has no words is decoded again, each time what is left of it."""
MOST = 8
"""Gaps that are decoded together."""


@dataclass(frozen=True, slots=True)
class _Passage:
    """Words that were decoded together, and how far to trust them."""

    words: Sequence[Word]
    confidence: Confidence

    def shifted(self, seconds: float) -> _Passage:
        return replace(self, words=[word.shifted(seconds) for word in self.words])


@dataclass(slots=True)
class Job:
    """A stretch of speech under way, and how much of it has been heard; times in seconds from its start."""

    samples: Samples
    options: AsrOptions
    file: str
    """Empty when it is not known which jobs belong together."""
    languages: Collection[str] = ()
    """Those that may be spoken, where somebody has named any."""
    language: str = ""
    """Empty to detect it."""
    assumed: str = ""
    """What it is unless it surely sounds like another."""
    heard: float = 0.0
    passages: list[_Passage] = field(default_factory=list)
    gaps: list[Gap] = field(default_factory=list)
    """Speech without words so far."""

    def __post_init__(self) -> None:
        if len(self.languages) == 1:
            (self.language,) = self.languages

    @property
    def seconds(self) -> float:
        return len(self.samples) / SAMPLE_RATE

    @property
    def window(self) -> float:
        """Seconds of the next window."""
        return min(self.seconds - self.heard, WINDOW)

    @property
    def open(self) -> bool:
        return self.seconds - self.heard >= SHORTEST_REST or not self.heard

    @property
    def unheard(self) -> float:
        """Seconds of speech without words."""
        return sum(gap.speech for gap in self.gaps)

    @property
    def segments(self) -> list[Segment]:
        return [
            replace(segment, confidence=passage.confidence)
            for passage in self.passages
            for segment in sentences(passage.words)
            if segment.text.strip()
        ]

    def part(self, gap: Gap) -> Job:
        """The sound of a gap, to be heard by itself."""
        samples = self.samples[round(gap.start * SAMPLE_RATE) : round(gap.end * SAMPLE_RATE)]
        return Job(samples, self.options, "", self.languages, language=gap.language, assumed=self.language)

    def fill(self, gap: Gap, part: Job) -> None:
        """Put what was heard in a gap between the words around it."""
        before: list[_Passage] = []
        after: list[_Passage] = []
        for passage in self.passages:
            first, second = coverage.place(passage.words, gap)
            before.append(replace(passage, words=first))
            after.append(replace(passage, words=second))
        for passage in part.passages:
            moved = passage.shifted(gap.start)
            kept = coverage.without_repeats(_words(before), moved.words, _words(after), gap)
            before.append(replace(moved, words=kept))
        self.passages = [passage for passage in [*before, *after] if passage.words]


class Hearing:
    """One loaded model, and what it knows of the languages of the files that are under way."""

    def __init__(self, model: WhisperModel, beam_size: int) -> None:
        self._model = model
        self._decoder = Decoder(model, beam_size)
        self._evidence = Evidence()

    @property
    def languages(self) -> list[str]:
        return self._decoder.languages

    def hear(self, jobs: Sequence[Job], looks: int = LOOKS) -> None:
        """Fill in the jobs, which share prompt, temperature and whether they are longer than a window."""
        while todo := [job for job in jobs if job.open]:
            self._next_windows(todo)
        again = [
            job for job in jobs if looks and (job.passages or not job.assumed)
        ]  # or it was heard by itself already
        parts = [(job, gap, job.part(gap)) for job in again for gap in job.gaps]
        for begin in range(0, len(parts), MOST):
            self.hear([part for _, _, part in parts[begin : begin + MOST]], looks - 1)
        for job in {id(job): job for job, _, _ in parts}.values():
            job.gaps = []
        for job, gap, part in parts:
            job.fill(gap, part)
            job.gaps += [left.shifted(gap.start) for left in part.gaps]

    def _next_windows(self, jobs: Sequence[Job]) -> None:
        windows = []
        for job in jobs:
            begin = round(job.heard * SAMPLE_RATE)
            windows.append(job.samples[begin : begin + round(WINDOW * SAMPLE_RATE)])
        spoken = [speech(window) for window in windows]
        encoded = self._decoder.encode(windows)
        mixed = self._detect(jobs, encoded, spoken)
        for i, parts in mixed.items():
            jobs[i].gaps += [Gap(p.start, p.end, p.speech, p.language).shifted(jobs[i].heard) for p in parts]
            jobs[i].heard += jobs[i].window
        if rows := [i for i in range(len(jobs)) if i not in mixed]:
            self._decode(
                [jobs[i] for i in rows],
                [windows[i] for i in rows],
                [spoken[i] for i in rows],
                Encoded(encoded.rows(rows)),
            )

    def _decode(
        self,
        jobs: Sequence[Job],
        windows: Sequence[Samples],
        spoken: Sequence[NDArray[np.bool_]],
        encoded: Encoded,
    ) -> None:
        """Words and gaps of windows whose languages are known."""
        tokenizers = [self._decoder.tokenizer(job.language, job.options.task) for job in jobs]
        # Whisper does better and faster without timestamps; they are needed where it must go on after the window.
        timestamps = jobs[0].seconds > WINDOW
        texts = self._texts(jobs, encoded, tokenizers, spoken, timestamps=timestamps)
        found: list[list[Span]] = []
        heard: list[float] = []
        for job, text, tokenizer in zip(jobs, texts, tokenizers, strict=True):
            spans, until = split(text.tokens if text else (), tokenizer.timestamp_begin, tokenizer.eot, job.window)
            found.append(spans)
            heard.append(until or job.window)
        aligned = self._words(jobs, encoded, tokenizers, found)
        for i, job in enumerate(jobs):
            said = tightened(aligned[i], windows[i])
            if text := texts[i]:
                # Of the window, as in openai-whisper: all that was decoded together has the same.
                confidence = Confidence(text.log_probability, text.compression, text.no_speech)
                job.passages.append(_Passage(said, confidence).shifted(job.heard))
            left = coverage.gaps(spoken[i][: round(heard[i] / FRAME)], said)
            job.gaps += [gap.shifted(job.heard) for gap in left]
            job.heard += heard[i]

    def _detect(
        self, jobs: Sequence[Job], encoded: Encoded, spoken: Sequence[NDArray[np.bool_]]
    ) -> dict[int, list[Part]]:
        """Fill in the languages that nobody has named; the parts of windows that are in several."""
        unknown = [i for i, job in enumerate(jobs) if not job.language]
        if not unknown:
            return {}
        heard = self._decoder.languages_of(encoded.rows(unknown))
        likely = {i: tongues.among(all_, jobs[i].languages) for i, all_ in zip(unknown, heard, strict=True)}
        # Who asks for one file with other languages is told of those.
        names = {i: (jobs[i].file or i, *jobs[i].languages) for i in unknown if not jobs[i].assumed}
        for i, name in names.items():
            self._evidence.add(name, likely[i], jobs[i].window)
        mixed = {}
        for i in unknown:
            job = jobs[i]
            main = job.assumed or self._evidence.language(names[i])
            parts = self._parts(job, main, likely[i], encoded, i, spoken[i])
            job.language = max(parts, key=lambda part: part.speech).language
            if len(parts) > 1 and not job.assumed:  # what is heard again is not taken apart again
                mixed[i] = parts
        self._evidence.forget([name for i, name in names.items() if not jobs[i].file])
        return mixed

    def _parts(
        self, job: Job, main: str, likely: Mapping[str, float], encoded: Encoded, row: int, speech: NDArray[np.bool_]
    ) -> list[Part]:
        """The languages of a window; what it sounds like as a whole is for all of it, if that is beyond doubt."""
        found = tongues.stretches(speech)
        if max(likely.values()) >= tongues.BEYOND_DOUBT:
            return tongues.parts(speech, [(0, len(speech))], [likely], main)
        heard = [encoded.stretch(row, begin * FRAME, end * FRAME) for begin, end in found]
        told = [tongues.among(self._decoder.languages_of(view)[0], job.languages) for view in heard]
        return tongues.parts(speech, found, told, main)

    def _texts(
        self,
        jobs: Sequence[Job],
        encoded: Encoded,
        tokenizers: Sequence[Tokenizer],
        spoken: Sequence[NDArray[np.bool_]],
        *,
        timestamps: bool,
    ) -> list[Text | None]:
        """The text of each window, None where nobody has said it."""
        options = jobs[0].options
        seconds = [float(np.count_nonzero(frames)) * FRAME for frames in spoken]
        texts = self._decoder.decode(
            encoded, tokenizers, seconds, options.prompt, options.temperature, timestamps=timestamps
        )
        kept = [None if _is_nothing(text, seconds[i]) else text for i, text in enumerate(texts)]
        suspects = [i for i, text in enumerate(kept) if text and _needs_proof(text, options.prompt, seconds[i])]
        if suspects:
            plain = self._decoder.decode(
                Encoded(encoded.rows(suspects)),
                [tokenizers[i] for i in suspects],
                [seconds[i] for i in suspects],
                "",
                options.temperature,
                timestamps=timestamps,
            )
            for i, text in zip(suspects, plain, strict=True):
                if _is_nothing(text, seconds[i]):
                    kept[i] = None
        return kept

    def _words(
        self,
        jobs: Sequence[Job],
        encoded: Encoded,
        tokenizers: Sequence[Tokenizer],
        found: Sequence[Sequence[Span]],
    ) -> list[list[Word]]:
        aligned: list[list[Word]] = [[] for _ in jobs]
        groups: dict[Tokenizer, list[int]] = {}
        for i, spans in enumerate(found):
            if spans:
                groups.setdefault(tokenizers[i], []).append(i)
        for tokenizer, rows in groups.items():
            made = words.align(
                self._model, tokenizer, encoded.rows(rows), [found[i] for i in rows], [jobs[i].window for i in rows]
            )
            for i, spoken in zip(rows, made, strict=True):
                aligned[i] = spoken
            if rated := [i for i in rows if jobs[i].options.logprobs]:
                told = words.rate(
                    self._model,
                    tokenizer,
                    encoded.rows(rated),
                    [found[i] for i in rated],
                    [jobs[i].window for i in rated],
                )
                for i, pieces in zip(rated, told, strict=True):
                    aligned[i] = spread(aligned[i], pieces)
        return aligned


def _words(passages: Sequence[_Passage]) -> list[Word]:
    return [word for passage in passages for word in passage.words]


def _is_nothing(text: Text, spoken: float) -> bool:
    silent = text.silent or is_noise(text.written, spoken, text.log_probability, text.no_speech)
    return not text.written or silent


def _needs_proof(text: Text, prompt: str, spoken: float) -> bool:
    return needs_proof(text.written, prompt, spoken, text.log_probability, text.no_speech)
