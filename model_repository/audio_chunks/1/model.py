"""The first step of every ASR ensemble: decode, split, find speech, cut."""

from __future__ import annotations

import contextlib
import io
import json
import logging
import os
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import IO, Any

import numpy as np
import triton_python_backend_utils as pb
from numpy.typing import NDArray
from talkies_kit import engine, wire
from talkies_kit.engine import EngineConfig
from talkies_kit.wire import AsrOptions, InvalidInput

from . import ceiling, sources
from .chunking import Chunk, chunks
from .cutting import Knobs
from .decoding import decode
from .overseer import Overseer
from .vad import Vad, load_session
from .watched import Cancelled, Watched

log = logging.getLogger("talkies")

GATHER = 0.5
"""Seconds for which the first chunks of a file are kept back, to go to the engine together."""
_PARTING = 0.5
"""Seconds for tritonserver to take what a process that ends has sent it."""


class TritonPythonModel:
    """Decoupled: one response per chunk; a fault is a response too, and the last one."""

    def initialize(self, args: Mapping[str, str]) -> None:
        engine.die_with_parent()
        config = EngineConfig.parse(args)
        self._roots = sources.roots(config.parameters.get(wire.CONFIG_AUDIO_ROOTS, ""))
        self._path_key = os.environ.get(wire.PATH_KEY_VARIABLE, "")
        self._max_seconds = config.number(wire.CONFIG_MAX_AUDIO_SECONDS)
        self._whole_up_to = config.number(wire.CONFIG_VAD_CHUNK_THRESHOLD)
        self._knobs = {
            "threshold": config.number(wire.CONFIG_VAD_THRESHOLD),
            "max_speech": config.number(wire.CONFIG_VAD_MAX_SPEECH),
            "min_silence_ms": config.number(wire.CONFIG_VAD_MIN_SILENCE_MS),
            "pad_ms": config.number(wire.CONFIG_VAD_SPEECH_PAD_MS),
        }
        self._session = load_session()
        ceiling.lower()

    def execute(self, requests: Sequence[Any]) -> None:
        for request in requests:
            sender = request.get_response_sender()
            try:
                self._answer(request, sender)
            except Cancelled:
                pass
            except Exception as error:
                _fail(sender, error)
            finally:
                _close(sender)

    def _answer(self, request: Any, sender: Any) -> None:
        parameters = json.loads(request.parameters() or "{}")
        split = _is_split(str(parameters.get(wire.CHANNELS, wire.MONO)))
        knobs = Knobs.of(**self._knobs | _asked(parameters))
        if sender.is_cancelled():  # while it waited for its turn
            return
        with self._open(request, parameters) as opened:
            file = Watched(opened)
            with Overseer(file, sender.is_cancelled, lambda late: _leave(sender, late)):
                blocks = _while_wanted(decode(file, split=split, max_seconds=self._max_seconds), file)
                listeners = [Vad(self._session).probabilities for _ in range(2 if split else 1)]
                found = chunks(blocks, listeners, knobs, split=split, whole_up_to=self._whole_up_to)
                for chunk in _gathered(found):
                    _send(sender, chunk)

    def _open(self, request: Any, parameters: Mapping[str, Any]) -> IO[bytes]:
        if path := str(parameters.get(wire.PATH, "")):
            sources.check_key(str(parameters.get(wire.PATH_KEY, "")), self._path_key)
            return sources.open_file(path, self._roots)
        audio = pb.get_input_tensor_by_name(request, wire.AUDIO).as_numpy()
        if not audio.size:
            raise InvalidInput("no audio: neither bytes nor a path", "file")
        return io.BytesIO(audio)


def _is_split(channels: str) -> bool:
    if channels not in (wire.MONO, wire.SPLIT):
        raise InvalidInput(f'channels must be "{wire.MONO}" or "{wire.SPLIT}"', "channels")
    return channels == wire.SPLIT


def _asked(parameters: Mapping[str, Any]) -> dict[str, float]:
    """The knobs that the request sets itself. Raises InvalidInput."""
    options = AsrOptions.from_parameters(parameters)
    asked = {
        "threshold": options.vad_threshold,
        "min_silence_ms": options.vad_min_silence_ms,
        "pad_ms": options.vad_speech_pad_ms,
    }
    return {name: value for name, value in asked.items() if value is not None}


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


def _while_wanted(blocks: Iterator[NDArray[np.int16]], file: Watched) -> Iterator[NDArray[np.int16]]:
    """`blocks`; raises Cancelled when the client has gone, also while what was read at once is listened to."""
    for block in blocks:
        file.check()
        yield block


def _send(sender: Any, chunk: Chunk, error: str = "") -> None:
    tensors = {
        wire.PCM: chunk.pcm[None],
        wire.SPEECH: chunk.speech.astype(np.uint8)[None],
        wire.START: np.array([[chunk.start]], np.float32),
        wire.INDEX: np.array([[chunk.index]], np.int32),
        wire.CHANNEL: np.array([[chunk.channel]], np.int32),
        wire.DURATION: np.array([[chunk.duration]], np.float32),
        wire.ERROR: np.array([[error]], np.object_),
    }
    sender.send(pb.InferenceResponse([pb.Tensor(name, value) for name, value in tensors.items()]))


def _fail(sender: Any, error: Exception) -> None:
    fault = engine.fault_of(error, "decoding")
    _send(sender, Chunk.empty(0.0), fault.dump())


def _leave(sender: Any, late: InvalidInput | None) -> None:
    """End this process, whose other thread does not come back; say why to who still waits for it."""
    log.error("a file's header is computed without end: this process ends, another will be started")
    if late:
        with contextlib.suppress(Exception):
            _fail(sender, late)
    _close(sender)
    time.sleep(_PARTING)
    os._exit(1)


def _close(sender: Any) -> None:
    """End the stream. Never raises: other requests are still to be answered."""
    try:
        sender.send(flags=pb.TRITONSERVER_RESPONSE_COMPLETE_FINAL)
    except Exception:
        log.exception("a response stream could not be closed")
