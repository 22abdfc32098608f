"""Whisper as a Triton model."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import replace

from talkies_kit.asr import AsrModel, Hypothesis, Stretch, named_languages
from talkies_kit.engine import EngineConfig
from talkies_kit.wire import Segment

from .decoder import WINDOW
from .hearing import Hearing, Job
from .loading import load_model

BEAM_SIZE = 5


class TritonPythonModel(AsrModel):
    """Decodes the windows of all requests of a batch together, whatever their languages and tasks."""

    def load(self, config: EngineConfig) -> None:
        self._hearing = Hearing(load_model(config), BEAM_SIZE)

    def group(self, stretch: Stretch) -> Hashable:
        options = stretch.options
        self._languages(stretch)  # or they are refused
        return options.prompt, options.temperature, stretch.seconds > WINDOW

    def transcribe(self, batch: Sequence[Stretch]) -> Sequence[Hypothesis]:
        jobs = [Job(stretch.samples, stretch.options, stretch.file, self._languages(stretch)) for stretch in batch]
        self._hearing.hear(jobs)
        return [Hypothesis(job.language, _asked(job), job.unheard) for job in jobs]

    def _languages(self, stretch: Stretch) -> tuple[str, ...]:
        """Those that may be spoken, empty for all. Raises InvalidInput."""
        return named_languages(stretch.options, self._hearing.languages)


def _asked(job: Job) -> list[Segment]:
    if job.options.word_timestamps or job.options.logprobs:
        return job.segments
    return [replace(segment, words=()) for segment in job.segments]
