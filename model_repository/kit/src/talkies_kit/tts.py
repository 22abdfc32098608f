"""Base class of the TTS models: requests in, PCM out while it is made, faults as data, several requests at a time."""

from __future__ import annotations

import json
import logging
import math
import threading
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import triton_python_backend_utils as pb
from numpy.typing import NDArray

from talkies_kit import cuda, engine, wire
from talkies_kit.engine import EngineConfig
from talkies_kit.fair import FairQueue, Turn
from talkies_kit.wire import Fault, FaultCode, InvalidInput, Sampling

log = logging.getLogger("talkies")

Pcm = NDArray[np.int16]
"""Mono samples at the model's SAMPLE_RATE."""
Utterance = Callable[[], Iterable[Pcm]]
"""A sentence or so, not yet spoken: going through it runs the engine, and what comes goes out at once."""


def nothing() -> Iterable[Pcm]:
    """The utterance of a text in which there is nothing to say: reading it was work all the same."""
    return ()


def unspoken(text: str, rate: int) -> Utterance:
    """The utterance of a text of which no speech came: a moment of silence at `rate` Hz for marks and pictures.

    Raises InvalidInput where there are letters or digits: a word that is left out must not look spoken.
    """
    if any(map(str.isalnum, text)):
        raise InvalidInput("input has nothing in it that can be spoken in this voice's language", "input")
    return lambda: [np.zeros(int(_SILENCE * rate), np.int16)]


_SILENCE = 0.2
"""Seconds."""
_SILENT_COST = 2400
"""Samples that a turn without audio counts as, so that text that cannot be spoken is nobody's way to the front."""

MIN_SPEED, MAX_SPEED = 0.25, 4.0


@dataclass(frozen=True, slots=True)
class Speech:
    """What to say. `text` has more than whitespace in it."""

    text: str
    voice: str
    language: str
    """ISO 639-1 code or BCP 47 tag; empty for the voice's own."""
    speed: float
    """In [0.25, 4.0]; 1.0 is natural."""
    sampling: Sampling
    """Of no effect on an engine that does not draw what it says."""


@dataclass(slots=True)
class _Job:
    """A request under way."""

    sender: Any
    utterances: Iterator[Utterance]
    utterance: Utterance | None = None
    """What its next turn speaks; None before the first."""


class TtsModel(ABC):
    """A decoupled Triton model that speaks.

    An engine's `TritonPythonModel` derives from it and has only `load` and `synthesize`. One thread runs the engine;
    between two utterances it turns to the request that was given least audio so far: none waits for a whole book.
    """

    @abstractmethod
    def load(self, config: EngineConfig) -> None:
        """Load the weights and warm up. Raises RuntimeError with one sentence when that cannot work."""

    @abstractmethod
    def synthesize(self, speech: Speech) -> Iterator[Utterance]:
        """Its utterances. Advancing is cheap (a sentence of text): a request is known to be over with its last one.
        Where no speech comes of a sentence, `nothing` is the utterance: a hang-up, or another request, is seen there.

        Raises InvalidInput, at the first utterance or later, when the request is at fault.
        """

    def initialize(self, args: Mapping[str, str]) -> None:
        engine.die_with_parent()
        self._waiting: FairQueue[_Job] = FairQueue()
        self._changed = threading.Condition()
        self._closing = False
        config = EngineConfig.parse(args)
        config.check_device()
        self.load(config.on_its_gpu())
        self._worker = threading.Thread(target=self._work, name="speech", daemon=True)
        self._worker.start()

    def execute(self, requests: Sequence[Any]) -> None:
        """Put the requests in the queue; the worker answers them."""
        for request in requests:
            sender = request.get_response_sender()
            try:
                job = _Job(sender, self.synthesize(_read(request)))
            except Exception as error:
                _end(sender, engine.fault_of(error, "speech"))
                continue
            with self._changed:
                self._waiting.add(job)
                self._changed.notify()

    def finalize(self) -> None:
        """Triton calls this when every request has had its final response."""
        with self._changed:
            self._closing = True
            self._changed.notify()
        self._worker.join()

    def _work(self) -> None:
        while (turn := self._next()) is not None:
            samples = _step(turn.job)
            if samples is not None:
                with self._changed:
                    self._waiting.put_back(turn, samples or _SILENT_COST)

    def _next(self) -> Turn[_Job] | None:
        """The next turn, waited for; None when the model closes."""
        with self._changed:
            self._changed.wait_for(lambda: len(self._waiting) or self._closing)
            return self._waiting.take() if len(self._waiting) else None


def _step(job: _Job) -> int | None:
    """Speak and send one utterance; its number of samples, None when the job is over. Never raises."""
    fault = None
    try:
        utterance = job.utterance or next(job.utterances, None)
        samples = _speak(job.sender, utterance) if utterance else None
        if samples is not None and (following := next(job.utterances, None)):
            job.utterance = following
            return samples
    except Exception as error:
        fault = engine.fault_of(error, "speech")
    if fault and fault.code is FaultCode.UNAVAILABLE:
        cuda.free()
    _end(job.sender, fault)
    return None


def _speak(sender: Any, utterance: Utterance) -> int | None:
    """Send the utterance while it is made; its number of samples, None when nobody waits for it any more."""
    chunks = iter(utterance())
    samples = 0
    while not sender.is_cancelled():
        pcm = next(chunks, None)
        if pcm is None:
            return samples
        _send(sender, pcm)
        samples += len(pcm)
    return None


def _end(sender: Any, fault: Fault | None) -> None:
    """Close the request, with the fault if there is one. Never raises: other requests share the thread."""
    try:
        if fault:
            _send(sender, np.zeros(0, np.int16), fault.dump())
    except Exception:
        log.exception("a fault could not be sent")
    try:
        sender.send(flags=pb.TRITONSERVER_RESPONSE_COMPLETE_FINAL)
    except Exception:
        log.exception("a response stream could not be closed")


def _send(sender: Any, pcm: Pcm, error: str = "") -> None:
    tensors = [pb.Tensor(wire.PCM, pcm), pb.Tensor(wire.ERROR, np.array([error], np.object_))]
    sender.send(pb.InferenceResponse(tensors))


def _read(request: Any) -> Speech:
    """The request's tensors and parameters. Raises InvalidInput."""
    text = _string(request, wire.TEXT, "input")
    if not text.strip():
        raise InvalidInput("input is empty", "input")
    tensor = pb.get_input_tensor_by_name(request, wire.SPEED)
    speed = 1.0 if tensor is None else float(tensor.as_numpy().reshape(-1)[0])
    if not math.isfinite(speed):
        raise InvalidInput("speed must be a number", "speed")
    return Speech(
        text=text,
        voice=_string(request, wire.VOICE, "voice"),
        language=_string(request, wire.LANGUAGE, "language"),
        speed=min(max(speed, MIN_SPEED), MAX_SPEED),
        sampling=Sampling.from_parameters(json.loads(request.parameters() or "{}")),
    )


def _string(request: Any, name: str, param: str) -> str:
    """The STRING[1] tensor, "" when it is absent. Raises InvalidInput when it is not UTF-8."""
    tensor = pb.get_input_tensor_by_name(request, name)
    if tensor is None:
        return ""
    try:
        return str(tensor.as_numpy().reshape(-1)[0].decode())
    except UnicodeDecodeError:
        raise InvalidInput(f"{param} is not valid UTF-8", param) from None
