"""The first step of every ASR ensemble: decode, split, find speech, cut."""

from __future__ import annotations

import io
import json
import logging
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import IO, Any

import numpy as np
import triton_python_backend_utils as pb
from numpy.typing import NDArray
from talkies_kit import engine, wire
from talkies_kit.engine import EngineConfig
from talkies_kit.wire import InvalidInput

from . import sources
from .chunking import Chunk, chunks
from .cutting import Knobs
from .decoding import decode
from .vad import Vad, load_session

log = logging.getLogger("talkies")

GATHER = 0.5
"""Seconds for which the first chunks of a file are kept back, to go to the engine together."""


class Cancelled(Exception):
    """Nobody waits for the answer any more."""


class TritonPythonModel:
    """Decoupled: one response per chunk; a fault is a response too, and the last one."""

    def initialize(self, args: Mapping[str, str]) -> None:
        engine.die_with_parent()
        config = EngineConfig.parse(args)
        self._roots = sources.roots(config.parameters.get(wire.CONFIG_AUDIO_ROOTS, ""))
        self._max_seconds = config.number("max_audio_seconds")
        self._whole_up_to = config.number("vad_chunk_threshold")
        self._knobs = Knobs.of(
            threshold=config.number("vad_threshold"),
            max_speech=config.number("vad_max_speech"),
            min_silence_ms=config.number("vad_min_silence_ms"),
            pad_ms=config.number("vad_speech_pad_ms"),
        )
        self._session = load_session()

    def execute(self, requests: Sequence[Any]) -> None:
        for request in requests:
            sender = request.get_response_sender()
            try:
                self._answer(request, sender)
            except Cancelled:
                pass
            except Exception as error:
                fault = engine.fault_of(error, "decoding")
                _send(sender, Chunk(np.zeros(0, np.int16), 0.0, -1, -1, 0.0), fault.dump())
            finally:
                _close(sender)

    def _answer(self, request: Any, sender: Any) -> None:
        parameters = json.loads(request.parameters() or "{}")
        split = _is_split(str(parameters.get(wire.CHANNELS, wire.MONO)))
        with self._open(request, str(parameters.get(wire.PATH, ""))) as file:
            blocks = decode(file, split=split, max_seconds=self._max_seconds)
            listeners = [Vad(self._session).probabilities for _ in range(2 if split else 1)]
            found = chunks(
                _until_cancelled(blocks, sender), listeners, self._knobs, split=split, whole_up_to=self._whole_up_to
            )
            for chunk in _gathered(found):
                _send(sender, chunk)

    def _open(self, request: Any, path: str) -> IO[bytes]:
        if path:
            return sources.open_file(path, self._roots)
        audio = pb.get_input_tensor_by_name(request, wire.AUDIO).as_numpy()
        if not audio.size:
            raise InvalidInput("no audio: neither bytes nor a path", "file")
        return io.BytesIO(audio)


def _is_split(channels: str) -> bool:
    if channels not in (wire.MONO, wire.SPLIT):
        raise InvalidInput(f'channels must be "{wire.MONO}" or "{wire.SPLIT}"', "channels")
    return channels == wire.SPLIT


def _gathered(found: Iterator[Chunk]) -> Iterator[Chunk]:
    """`found`, the first of them together: the engine's first batch of a long file is then a full one."""
    started = time.monotonic()
    held: list[Chunk] = []
    for chunk in found:
        held.append(chunk)
        if time.monotonic() - started >= GATHER:
            yield from held
            held = []
    yield from held


def _until_cancelled(blocks: Iterator[NDArray[np.int16]], sender: Any) -> Iterator[NDArray[np.int16]]:
    """`blocks`; raises Cancelled when the client has gone. Asked now and then: each time is a call to tritonserver."""
    unasked = 0
    for block in blocks:
        unasked += block.shape[1]
        if unasked > 5 * wire.SAMPLE_RATE:
            unasked = 0
            if sender.is_cancelled():
                raise Cancelled
        yield block


def _send(sender: Any, chunk: Chunk, error: str = "") -> None:
    tensors = {
        wire.PCM: chunk.pcm[None],
        wire.START: np.array([[chunk.start]], np.float32),
        wire.INDEX: np.array([[chunk.index]], np.int32),
        wire.CHANNEL: np.array([[chunk.channel]], np.int32),
        wire.DURATION: np.array([[chunk.duration]], np.float32),
        wire.ERROR: np.array([[error]], np.object_),
    }
    sender.send(pb.InferenceResponse([pb.Tensor(name, value) for name, value in tensors.items()]))


def _close(sender: Any) -> None:
    """End the stream. Never raises: other requests are still to be answered."""
    try:
        sender.send(flags=pb.TRITONSERVER_RESPONSE_COMPLETE_FINAL)
    except Exception:
        log.exception("a response stream could not be closed")
