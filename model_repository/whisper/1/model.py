"""Whisper as a Triton model."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass, field, replace

from faster_whisper.tokenizer import Tokenizer
from talkies_kit.asr import AsrModel, Hypothesis, Samples, Stretch, known_language
from talkies_kit.engine import EngineConfig
from talkies_kit.wire import SAMPLE_RATE, Confidence, Segment

from . import words
from .decoder import WINDOW, Decoder, Encoded
from .evidence import Evidence
from .loading import load_model
from .loudness import tightened
from .sentences import sentences
from .timeline import Span, split

BEAM_SIZE = 5
SHORTEST_REST = 1.0
"""Seconds after the last timestamp that are worth another look."""


@dataclass(slots=True)
class _Job:
    """A stretch of speech under way, and how much of it has been heard."""

    stretch: Stretch
    language: str
    heard: float = 0.0
    segments: list[Segment] = field(default_factory=list)

    @property
    def window(self) -> float:
        """Seconds of the next window."""
        return min(self.stretch.seconds - self.heard, WINDOW)

    @property
    def open(self) -> bool:
        return self.stretch.seconds - self.heard >= SHORTEST_REST or not self.heard


class TritonPythonModel(AsrModel):
    """Decodes the windows of all requests of a batch together, whatever their languages and tasks."""

    def load(self, config: EngineConfig) -> None:
        self._model = load_model(config)
        self._decoder = Decoder(self._model, BEAM_SIZE)
        self._evidence = Evidence()

    def group(self, stretch: Stretch) -> Hashable:
        options = stretch.options
        self._language(stretch)  # or it is refused
        return options.prompt, options.temperature, stretch.seconds > WINDOW

    def transcribe(self, batch: Sequence[Stretch]) -> Sequence[Hypothesis]:
        jobs = [_Job(stretch, self._language(stretch)) for stretch in batch]
        while todo := [job for job in jobs if job.open]:
            self._next_windows(todo)
        return [Hypothesis(job.language, job.segments) for job in jobs]

    def _language(self, stretch: Stretch) -> str:
        """What was named, empty for what is to be detected. Raises InvalidInput."""
        asked = stretch.options.language
        return known_language(asked, self._decoder.languages) if asked else ""

    def _next_windows(self, jobs: Sequence[_Job]) -> None:
        windows = []
        for job in jobs:
            begin = round(job.heard * SAMPLE_RATE)
            windows.append(job.stretch.samples[begin : begin + round(WINDOW * SAMPLE_RATE)])
        encoded = self._decoder.encode(windows)
        self._detect(jobs, encoded)
        tokenizers = [self._decoder.tokenizer(job.language, job.stretch.options.task) for job in jobs]
        options = jobs[0].stretch.options
        # Whisper does better and faster without timestamps; they are needed where it must go on after the window.
        timestamps = jobs[0].stretch.seconds > WINDOW
        texts = self._decoder.decode(encoded, tokenizers, options.prompt, options.temperature, timestamps=timestamps)
        found: list[list[Span]] = []
        heard: list[float] = []
        for job, text, tokenizer in zip(jobs, texts, tokenizers, strict=True):
            spans, until = split(text.tokens, tokenizer.timestamp_begin, tokenizer.eot, job.window)
            found.append([] if text.silent else spans)
            heard.append(job.window if text.silent else until)
        segments = self._segments(jobs, encoded, tokenizers, found, windows)
        for i, job in enumerate(jobs):
            # Of the window, as in openai-whisper: all that was decoded together has the same.
            confidence = Confidence(texts[i].log_probability, texts[i].compression, texts[i].no_speech)
            job.segments += [
                replace(segment.shifted(job.heard), confidence=confidence)
                for segment in segments[i]
                if segment.text.strip()
            ]
            job.heard += heard[i] or job.window

    def _detect(self, jobs: Sequence[_Job], encoded: Encoded) -> None:
        """Fill in the languages that nobody has named."""
        names = [job.stretch.file or f"\0{i}" for i, job in enumerate(jobs)]
        for job in jobs:
            job.language = job.language or self._evidence.settled(job.stretch.file)
        unknown = [i for i, job in enumerate(jobs) if not job.language]
        if not unknown:
            return
        for i, probabilities in zip(unknown, self._decoder.languages_of(encoded.rows(unknown)), strict=True):
            self._evidence.add(names[i], probabilities, jobs[i].window)
        for i in unknown:
            jobs[i].language = self._evidence.language(names[i])
        self._evidence.forget([names[i] for i in unknown if not jobs[i].stretch.file])

    def _segments(
        self,
        jobs: Sequence[_Job],
        encoded: Encoded,
        tokenizers: Sequence[Tokenizer],
        found: Sequence[Sequence[Span]],
        windows: Sequence[Samples],
    ) -> list[list[Segment]]:
        segments = [
            [Segment(span.start, span.end, tokenizer.decode(list(span.tokens))) for span in spans]
            for tokenizer, spans in zip(tokenizers, found, strict=True)
        ]
        groups: dict[Tokenizer, list[int]] = {}
        for i, job in enumerate(jobs):
            if found[i] and not job.stretch.options.text_only:
                groups.setdefault(tokenizers[i], []).append(i)
        for tokenizer, rows in groups.items():
            aligned = words.align(
                self._model, tokenizer, encoded.rows(rows), [found[i] for i in rows], [jobs[i].window for i in rows]
            )
            for i, spoken in zip(rows, aligned, strict=True):
                made = sentences(tightened(spoken, windows[i]))
                segments[i] = made if jobs[i].stretch.options.word_timestamps else [replace(s, words=()) for s in made]
        return segments
