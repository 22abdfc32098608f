"""Base class of the ASR engines: chunks of many requests in, hypotheses out, faults as data."""

from __future__ import annotations

import json
import logging
import sys
from abc import ABC, abstractmethod
from collections.abc import Collection, Hashable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import triton_python_backend_utils as pb
from numpy.typing import NDArray

from talkies_kit import cuda, engine, wire
from talkies_kit.engine import EngineConfig
from talkies_kit.wire import AsrOptions, Fault, InvalidInput, Segment

log = logging.getLogger("talkies")

Samples = NDArray[np.float32]
"""Mono audio at 16 kHz in [-1, 1)."""

_LONGEST = 30.0
"""Seconds of the longest stretch that `audio_chunks` cuts by default, and a little more."""


@dataclass(frozen=True, slots=True)
class Stretch:
    """A stretch of a file to transcribe. `samples` is never empty."""

    samples: Samples
    options: AsrOptions
    file: str
    """The same for all stretches of one file; empty when it is not known which belong together."""
    speech: NDArray[np.bool_] | None = None
    """Of each `wire.SPEECH_FRAME` samples whether they are speech; None where nobody says so."""

    @property
    def seconds(self) -> float:
        return len(self.samples) / wire.SAMPLE_RATE


@dataclass(frozen=True, slots=True)
class Hypothesis:
    """What was said in a `Stretch`; times in seconds from its first sample."""

    language: str
    """ISO 639-1 code of what was spoken."""
    segments: Sequence[Segment]
    unheard: float = 0.0
    """Seconds of speech that the engine found no words for, where it knows that."""


def known_language(asked: str, known: Collection[str], param: str = "language") -> str:
    """The code of a language that may be written "EN" or "en-US". Raises InvalidInput, which lists the `known` ones."""
    code = asked.lower().partition("-")[0]
    if code not in known:
        raise InvalidInput(f"{param} {asked!r} is not one that this model knows: {', '.join(sorted(known))}", param)
    return code


def named_languages(options: AsrOptions, known: Collection[str]) -> tuple[str, ...]:
    """The codes of the languages that may be spoken: one that is settled, several to choose from, none for all.

    Raises InvalidInput.
    """
    if options.language:
        return (known_language(options.language, known),)
    return tuple(dict.fromkeys(known_language(asked, known, "languages") for asked in options.languages))


def refuse_translation(options: AsrOptions) -> None:
    """For an engine that only transcribes. Raises InvalidInput."""
    if options.task == "translate":
        raise InvalidInput("this model does not translate", "task")


@dataclass(frozen=True, slots=True)
class _Chunk:
    stretch: Stretch
    start: float


_Answer = Hypothesis | Fault


class AsrModel(ABC):
    """A batching Triton model that transcribes.

    An engine's `TritonPythonModel` derives from it and has only `load` and `transcribe`.
    """

    @abstractmethod
    def load(self, config: EngineConfig) -> None:
        """Load the weights and warm up. Raises RuntimeError with one sentence when that cannot work."""

    @abstractmethod
    def transcribe(self, batch: Sequence[Stretch]) -> Sequence[Hypothesis]:
        """One transcript per stretch, in order. Raises InvalidInput when the options of one of them cannot be met.

        All of `batch` share what `group` says. It holds 1 to `max_batch_size` stretches of any files.
        """

    def group(self, stretch: Stretch) -> Hashable:
        """What stretches must have in common to be in one batch: all options, unless an engine can mix some."""
        return stretch.options

    def initialize(self, args: Mapping[str, str]) -> None:
        engine.die_with_parent()
        self._most = sys.maxsize
        """Stretches that the GPU's memory was seen to suffice for."""
        self._starved = False
        """Whether the last call had too little of it. CTranslate2's next one then fails whatever it is given, once."""
        config = EngineConfig.parse(args)
        config.check_device()
        config = config.on_its_gpu()
        self._family = pb.MetricFamily(  # kept, for its metrics end with it
            name="talkies_unheard_speech_seconds_total",
            description="Speech for which an engine found no words.",
            kind=pb.MetricFamily.COUNTER,
        )
        self._unheard = self._family.Metric(labels={"model": config.name.removesuffix(".engine")})
        self.load(config)
        if config.device != "cpu":
            self._warm_up(config.max_batch_size)

    def _warm_up(self, batch_size: int) -> None:
        """Pay on loading what a GPU's first and largest batch costs: compiled kernels, captured graphs, memory.

        Raises RuntimeError when the GPU cannot do even one stretch. Batches that it has no memory for are remembered.
        """
        noise = np.random.default_rng(0).normal(0, 0.05, int(_LONGEST * wire.SAMPLE_RATE)).astype(np.float32)
        stretch = Stretch(noise, AsrOptions(word_timestamps=True), "")
        try:
            self.transcribe([stretch])
        except Exception as error:  # of which there is no content of a request to hide yet
            raise RuntimeError(
                f"the GPU cannot be used: {(str(error) or type(error).__name__).splitlines()[0]}"
            ) from None
        for answer in self._answers([stretch] * batch_size):
            if isinstance(answer, Fault):
                raise RuntimeError(answer.message)

    def execute(self, requests: Sequence[Any]) -> list[Any]:
        """Answer every request; never raises and never answers with a Triton error."""
        answers: list[_Answer] = [Hypothesis("", ())] * len(requests)
        chunks: dict[int, _Chunk] = {}
        groups: dict[Hashable, list[int]] = {}
        for i, request in enumerate(requests):
            try:
                if not request.is_cancelled() and (chunk := _read(request)):
                    groups.setdefault(self.group(chunk.stretch), []).append(i)
                    chunks[i] = chunk
            except Exception as error:
                answers[i] = engine.fault_of(error, "transcription")
        for indices in groups.values():
            results = self._answers([chunks[i].stretch for i in indices])
            for i, answer in zip(indices, results, strict=True):
                answers[i] = _shifted(answer, chunks[i].start)
        self._unheard.increment(sum(answer.unheard for answer in answers if isinstance(answer, Hypothesis)))
        return [_response(answer) for answer in answers]

    def _answers(self, batch: Sequence[Stretch]) -> list[_Answer]:
        """One for each stretch. What fails together is tried in halves: one stretch must not spoil the others."""
        if len(batch) > self._most:
            return [*self._answers(batch[: self._most]), *self._answers(batch[self._most :])]
        try:
            hypotheses = list(self.transcribe(batch))
            if len(hypotheses) != len(batch):
                raise RuntimeError(f"{len(batch)} stretches made {len(hypotheses)} hypotheses")
            self._starved = False
            return [*hypotheses]
        except Exception as error:
            starved = cuda.is_out_of_memory(error)
            leftover = self._starved and not starved
            self._starved = starved
            if not leftover and (len(batch) == 1 or cuda.is_lost(error)):
                return [engine.fault_of(error, "transcription")] * len(batch)
        if leftover:
            return self._answers(batch)
        if starved:
            self._most = len(batch) // 2
            log.warning("batches of %d are too large for the GPU's memory; %d from now on", len(batch), self._most)
            cuda.free()
        half = len(batch) // 2
        return [*self._answers(batch[:half]), *self._answers(batch[half:])]


def _read(request: Any) -> _Chunk | None:
    """The request's tensors and parameters, None when it has no samples. Raises InvalidInput."""
    pcm = pb.get_input_tensor_by_name(request, wire.PCM).as_numpy().reshape(-1)
    start = pb.get_input_tensor_by_name(request, wire.START)
    options = AsrOptions.from_parameters(json.loads(request.parameters() or "{}"))
    if not pcm.size:
        return None
    speech = pb.get_input_tensor_by_name(request, wire.SPEECH)
    stretch = Stretch(
        pcm.astype(np.float32) / 32768,
        options,
        request.request_id(),
        None if speech is None else speech.as_numpy().reshape(-1).astype(np.bool_),
    )
    return _Chunk(stretch, 0.0 if start is None else float(start.as_numpy().reshape(-1)[0]))


def _shifted(answer: _Answer, seconds: float) -> _Answer:
    if isinstance(answer, Fault):
        return answer
    return replace(answer, segments=[segment.shifted(seconds) for segment in answer.segments])


def _response(answer: _Answer) -> Any:
    if isinstance(answer, Fault):
        segments, language, error = "[]", "", answer.dump()
    else:
        segments, language, error = wire.dump_segments(answer.segments), answer.language, ""
    texts = {wire.SEGMENTS: segments, wire.LANGUAGE: language, wire.ERROR: error}
    return pb.InferenceResponse([pb.Tensor(name, np.array([[text]], np.object_)) for name, text in texts.items()])
