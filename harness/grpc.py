"""The models over gRPC, as a Triton user calls them."""

from __future__ import annotations

import queue
from typing import Any

import numpy as np
import tritonclient.grpc as triton
from talkies_kit import wire

from harness.server import Service


def stream(
    server: Service, model: str, inputs: list[Any], headers: dict[str, str] | None = None, **options: Any
) -> list[Any]:
    """All responses to one streamed request. Raises InferenceServerException when it is refused."""
    answers: queue.Queue[tuple[Any, Exception | None]] = queue.Queue()
    results = []
    with triton.InferenceServerClient(server.grpc) as client:
        client.start_stream(lambda result, error: answers.put((result, error)), headers=headers)
        client.async_stream_infer(model, inputs, enable_empty_final_response=True, **options)
        while True:
            result, error = answers.get(timeout=60)
            if error:
                raise error
            response = result.get_response()
            if response.outputs:
                results.append(result)
            if response.parameters["triton_final_response"].bool_param:
                return results


def audio(data: bytes) -> list[Any]:
    """The inputs of an ASR ensemble: an encoded file."""
    tensor = triton.InferInput(wire.AUDIO, [len(data)], "UINT8")
    tensor.set_data_from_numpy(np.frombuffer(data, np.uint8))
    return [tensor]


def speech(text: str, voice: str = "af_heart") -> list[Any]:
    """The inputs of a TTS model."""
    inputs = []
    for name, value in ((wire.TEXT, text), (wire.VOICE, voice), (wire.LANGUAGE, "")):
        inputs.append(triton.InferInput(name, [1], "BYTES"))
        inputs[-1].set_data_from_numpy(np.array([value.encode()], object))
    inputs.append(triton.InferInput(wire.SPEED, [1], "FP32"))
    inputs[-1].set_data_from_numpy(np.array([1.0], np.float32))
    return inputs


def text(result: Any, name: str) -> str:
    """A STRING output."""
    return str(result.as_numpy(name).reshape(-1)[0].decode())


def heard(results: list[Any]) -> str:
    """The text of all segments."""
    return " ".join(s.text for result in results for s in wire.load_segments(text(result, wire.SEGMENTS)))
