"""The one seam to tritonserver: everything gRPC is here and in `connection`, and only `TalkiesError`s leave."""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import AsyncGenerator, AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import structlog
from talkies_kit import wire
from talkies_kit.wire import AsrOptions, Fault, FaultCode, Sampling, Segment
from tritonclient.grpc import InferInput
from tritonclient.utils import InferenceServerException

from talkies import tracing
from talkies.engines.connection import Connection
from talkies.errors import (
    BadRequest,
    EngineDied,
    EngineFailed,
    EngineStarved,
    LoadTimedOut,
    ModelUnavailable,
    NotLoaded,
    TalkiesError,
    TimedOut,
    Unavailable,
)

log = structlog.get_logger("talkies.triton")

ADMIN_KEY, INFERENCE_KEY = "admin-key", "inference-key"
"""The names of the keys that close parts of the gRPC API; Triton wants them in headers."""
_HEADER = "triton-grpc-protocol-"
_CALL_TIMEOUT = 10.0
"""Seconds for a call that only asks."""
_STUB = re.compile(r"Stub process '(.+?)_\d+_\d+' is not healthy")
"""How Triton names a dead process: its model, the number of the instance group and of the instance."""


class State(StrEnum):
    READY = "READY"
    LOADING = "LOADING"
    UNLOADING = "UNLOADING"
    UNAVAILABLE = "UNAVAILABLE"
    UNKNOWN = ""
    """Never loaded since tritonserver started."""


@dataclass(frozen=True, slots=True)
class ChunkAnswer:
    """What an ASR ensemble answers for one chunk of a file."""

    index: int
    """The chunk's place in the file; -1 for the one empty chunk of a file without speech."""
    channel: int
    """-1 for the mono mix, else the channel the chunk was cut from (0 left, 1 right)."""
    start: float
    """Where the chunk begins in the file, in seconds."""
    duration: float
    """Seconds of audio decoded so far, all of the chunk included; the largest one of a file is its duration."""
    language: str
    segments: Sequence[Segment]
    """In seconds from the start of the file."""


@dataclass(frozen=True, slots=True)
class Keys:
    """What tritonserver asks for; an empty one is not sent."""

    admin: str = ""
    """For loading and unloading."""
    inference: str = ""
    """For asking for inference."""
    path: str = ""
    """For naming a file by its path."""


class Triton:
    """A tritonserver, over one gRPC channel."""

    def __init__(self, url: str, keys: Keys) -> None:
        self._connection = Connection(url)
        self._headers = {_HEADER + ADMIN_KEY: keys.admin} if keys.admin else None
        self._inference = {_HEADER + INFERENCE_KEY: keys.inference} if keys.inference else None
        self._path = {wire.PATH_KEY: keys.path} if keys.path else {}

    async def close(self) -> None:
        await self._connection.close()

    async def reconnect(self, *, force: bool) -> bool:
        """See `Connection.renew`."""
        return await self._connection.renew(force=force)

    async def wait_ready(self, within: float) -> None:
        """Return once the server answers. Raises Unavailable after `within` seconds."""
        deadline = time.monotonic() + within
        while time.monotonic() < deadline:
            if await self.is_ready():
                return
            await asyncio.sleep(0.1)
        away = Unavailable(f"tritonserver did not become ready within {within:.0f} s.")
        away.again = False
        raise away

    async def is_ready(self) -> bool:
        return await self._connection.is_ready()

    async def index(self) -> dict[str, State]:
        """The state of every model in the repository, READY where one of its versions is."""
        try:
            with self._connection.client() as client:
                answer = await client.get_model_repository_index(headers=self._headers, client_timeout=_CALL_TIMEOUT)
        except InferenceServerException as error:
            raise _error(error) from None
        states: dict[str, State] = {}
        for entry in answer.models:
            # A model that is loaded anew while its old copy still goes is listed twice.
            if states.get(entry.name) is not State.READY:
                states[entry.name] = State(entry.state)
        return states

    async def instances(self, name: str) -> int:
        """How many instances, each a process, a loaded model has."""
        try:
            with self._connection.client() as client:
                answer = await client.get_model_config(name, client_timeout=_CALL_TIMEOUT)
        except InferenceServerException as error:
            raise _error(error) from None
        return sum(group.count for group in answer.config.instance_group)

    async def load(self, name: str, within: float) -> None:
        """Load a model, for an ensemble with its members. Raises ModelUnavailable with the engine's own sentence."""
        try:
            with self._connection.client() as client:
                await client.load_model(name, headers=self._headers, client_timeout=within)
        except InferenceServerException as error:
            reason = error.message() or ""
            log.warning("load failed", model=name, reason=reason)
            if _code(error) is grpc.StatusCode.DEADLINE_EXCEEDED:
                raise LoadTimedOut(f"{name} did not load within {within:.0f} s.") from None
            if _code(error) is grpc.StatusCode.UNAVAILABLE:
                raise _error(error) from None
            raise ModelUnavailable(f"{name} cannot be loaded: {_load_reason(reason)}") from None

    async def unload(self, name: str) -> None:
        """Start unloading a model and the members that only it uses; running requests finish first."""
        try:
            with self._connection.client() as client:
                await client.unload_model(
                    name, headers=self._headers, unload_dependents=True, client_timeout=_CALL_TIMEOUT
                )
        except InferenceServerException as error:
            raise _error(error) from None

    async def last_used(self, name: str) -> float:
        """Unix time of a model's last request; 0 before the first, and when it is not loaded."""
        try:
            with self._connection.client() as client:
                answer = await client.get_inference_statistics(name, client_timeout=_CALL_TIMEOUT)
        except InferenceServerException as error:
            failure = _error(error)
            if isinstance(failure, NotLoaded | EngineFailed):
                return 0.0
            raise failure from None
        return float(max((stats.last_inference for stats in answer.model_stats), default=0)) / 1000

    async def transcribe(
        self,
        slug: str,
        path: Path,
        options: AsrOptions,
        *,
        channels: str,
        priority: int,
        request_id: str,
        within: float,
    ) -> AsyncGenerator[ChunkAnswer]:
        """The chunks of the file at `path` as the engine finishes them, in any order."""
        parameters = {wire.PATH: str(path), **self._path, wire.CHANNELS: channels, **options.to_parameters()}
        inputs = [_tensor(wire.AUDIO, np.zeros(0, np.uint8), "UINT8")]
        fault: TalkiesError | None = None
        async for result in self._stream(slug, inputs, parameters, priority, request_id, within):
            # Raised after the last response: a stream that is cancelled beside its end may keep its model from
            # being unloaded (seen on 2.51).
            fault = fault or _fault(result, wire.AUDIO_ERROR, wire.AUDIO_CHUNKS) or _fault(result, wire.ERROR)
            if fault is None:
                yield ChunkAnswer(
                    index=int(_scalar(result, wire.INDEX)),
                    channel=int(_scalar(result, wire.CHANNEL)),
                    start=float(_scalar(result, wire.START)),
                    duration=float(_scalar(result, wire.DURATION)),
                    language=_text(result, wire.LANGUAGE),
                    segments=wire.load_segments(_text(result, wire.SEGMENTS)),
                )
        if fault:
            raise fault

    async def synthesize(
        self,
        slug: str,
        text: str,
        *,
        voice: str,
        speed: float,
        language: str,
        sampling: Sampling,
        request_id: str,
        within: float,
    ) -> AsyncGenerator[bytes]:
        """Speech as s16le mono PCM at the model's rate, as it is made."""
        inputs = [
            _tensor(wire.TEXT, np.array([text.encode()], object), "BYTES"),
            _tensor(wire.VOICE, np.array([voice.encode()], object), "BYTES"),
            _tensor(wire.LANGUAGE, np.array([language.encode()], object), "BYTES"),
            _tensor(wire.SPEED, np.array([speed], np.float32), "FP32"),
        ]
        fault: TalkiesError | None = None
        async for result in self._stream(slug, inputs, sampling.to_parameters(), 0, request_id, within):
            fault = fault or _fault(result, wire.ERROR)
            if (pcm := result.as_numpy(wire.PCM)) is not None and pcm.size:
                yield pcm.tobytes()
        if fault:
            raise fault

    async def _stream(
        self,
        model: str,
        inputs: list[Any],
        parameters: Mapping[str, str | int | bool],
        priority: int,
        request_id: str,
        within: float,
    ) -> AsyncGenerator[Any]:
        async def request() -> AsyncIterator[dict[str, Any]]:
            yield {
                "model_name": model,
                "inputs": inputs,
                "parameters": dict(parameters),
                "priority": priority,
                "request_id": request_id,
            }

        with tracing.span(model, request_id) as headers, self._connection.client() as client:
            responses = client.stream_infer(
                request(), stream_timeout=within, headers={**(self._inference or {}), **headers}
            )
            try:
                async for result, error in responses:
                    if error is not None:
                        raise _rpc_error(_code(error), error.message() or "")
                    yield result
            except grpc.aio.AioRpcError as error:
                raise _rpc_error(error.code(), error.details() or "") from None
            finally:
                responses.cancel()  # a caller that leaves early takes its request with it


def _tensor(name: str, value: np.ndarray[Any, Any], dtype: str) -> Any:
    tensor = InferInput(name, list(value.shape), dtype)
    tensor.set_data_from_numpy(value)
    return tensor


def _scalar(result: Any, name: str) -> Any:
    return result.as_numpy(name).reshape(-1)[0]


def _text(result: Any, name: str) -> str:
    value = result.as_numpy(name)
    return value.reshape(-1)[0].decode() if value is not None and value.size else ""


def _fault(result: Any, name: str, model: str = "") -> TalkiesError | None:
    """The error that the STRING tensor `name` of the Triton model `model` holds, if any."""
    fault = Fault.load(_text(result, name))
    if fault is None:
        return None
    if fault.code is FaultCode.INVALID:
        return BadRequest(fault.message, param=fault.param or None)
    if fault.code is FaultCode.UNAVAILABLE:
        return EngineStarved(f"{fault.message[:1].upper()}{fault.message[1:]}.", model=model)
    if fault.code is FaultCode.BROKEN:
        return EngineDied(f"{fault.message[:1].upper()}{fault.message[1:]}.", model=model)
    return EngineFailed(fault.message, model=model)


def _code(error: InferenceServerException) -> grpc.StatusCode | None:
    """The gRPC status of an error, None for one that came through a stream."""
    name = (error.status() or "").removeprefix("StatusCode.")
    return grpc.StatusCode[name] if name in grpc.StatusCode.__members__ else None


def _error(error: InferenceServerException) -> TalkiesError:
    """Of a call, which only asks; a request that takes too long is another matter."""
    code = _code(error)
    if code is grpc.StatusCode.DEADLINE_EXCEEDED:
        return Unavailable("tritonserver does not answer; if that goes on it is replaced.")
    return _rpc_error(code, error.message() or "")


def _rpc_error(code: grpc.StatusCode | None, message: str) -> TalkiesError:
    """The one map from Triton's errors to ours; the message decides where a stream has lost the code."""
    if "is not healthy" in message or "Stub process" in message:
        dead = _STUB.search(message)
        return EngineDied(
            "The model's process ended while it worked on this request; try again.", model=dead[1] if dead else ""
        )
    if "has no available versions" in message or "is not ready" in message or "is not found" in message:
        return NotLoaded("The model is not loaded.")
    if code is grpc.StatusCode.DEADLINE_EXCEEDED or "Request timeout expired" in message:
        return TimedOut("The request took longer than TALKIES_REQUEST_TIMEOUT allows.")
    if "This protocol is restricted" in message:
        return Unavailable(
            "tritonserver refuses the call: TALKIES_TRITON_ADMIN_KEY or TALKIES_GRPC_KEY is not its key."
        )
    if code in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED):
        return Unavailable("tritonserver cannot be reached; if it has just died it is being restarted.")
    log.error("triton error", code=str(code), reason=message)
    return EngineFailed("The model failed on this request; the server's log has the reason.")


def _load_reason(message: str) -> str:
    """The exception text of a failed `initialize`, without Triton's frame and traceback."""
    text = message.partition("\n\nAt:")[0].splitlines()[0] if message else ""
    return text.rpartition("Error: ")[2].strip(" ;") or "tritonserver gave no reason"
