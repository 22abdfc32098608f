"""Speak a text over Triton's gRPC API: PCM arrives sentence by sentence and goes straight into a WAV file.

    .venv/bin/python scripts/examples/grpc_speak.py "Hello. This is the second sentence." -o hello.wav

Needs only `tritonclient[grpc]`. The model must be loaded, and loading takes the admin key that talkies keeps to itself:
start the server with TALKIES_PRELOAD=kokoro-82m, or let it speak once over HTTP first.
"""

from __future__ import annotations

import argparse
import json
import queue
import sys
import time
import wave
from collections.abc import Iterator
from typing import Any

import numpy as np
from tritonclient.grpc import InferenceServerClient, InferInput, InferResult
from tritonclient.utils import InferenceServerException


def stream(
    client: InferenceServerClient, model: str, inputs: list[InferInput], timeout: float
) -> Iterator[InferResult]:
    """The responses to one request, until the one that Triton marks as the last."""
    responses: queue.Queue[tuple[Any, InferenceServerException | None]] = queue.Queue()
    client.start_stream(lambda result, error: responses.put((result, error)), stream_timeout=timeout)
    try:
        client.async_stream_infer(model, inputs, enable_empty_final_response=True)
        while True:
            result, error = responses.get(timeout=timeout)
            if error is not None:
                raise error
            if result.get_output("PCM") is not None:
                yield result
            if result.get_response().parameters["triton_final_response"].bool_param:
                return
    finally:
        client.stop_stream()


def tensor(name: str, value: str | float) -> InferInput:
    """One STRING, or one FP32."""
    is_text = isinstance(value, str)
    made = InferInput(name, [1], "BYTES" if is_text else "FP32")
    made.set_data_from_numpy(np.array([value.encode()], object) if is_text else np.array([value], np.float32))
    return made


def main() -> None:
    parser = argparse.ArgumentParser(description="Speak a text over gRPC.")
    parser.add_argument("text")
    parser.add_argument("-o", "--output", default="speech.wav")
    parser.add_argument("--url", default="127.0.0.1:8001", help="host:port of Triton's gRPC endpoint")
    parser.add_argument("--model", default="kokoro-82m")
    parser.add_argument("--voice", default="af_heart")
    parser.add_argument("--language", default="", help="the voice's own when not given")
    parser.add_argument("--speed", type=float, default=1.0)
    parser.add_argument("--timeout", type=float, default=600, help="seconds")
    args = parser.parse_args()

    client = InferenceServerClient(args.url)
    if not client.is_model_ready(args.model, client_timeout=10):
        sys.exit(f"{args.model} is not loaded: set TALKIES_PRELOAD={args.model}, or use it once over HTTP.")
    config = client.get_model_config(args.model, client_timeout=10).config
    rate = int(config.parameters["SAMPLE_RATE"].string_value)
    inputs = [
        tensor("TEXT", args.text),
        tensor("VOICE", args.voice),
        tensor("LANGUAGE", args.language),
        tensor("SPEED", args.speed),
    ]
    started = time.monotonic()
    with wave.open(args.output, "wb") as out:
        out.setparams((1, 2, rate, 0, "NONE", ""))
        for result in stream(client, args.model, inputs, args.timeout):
            if fault := result.as_numpy("ERROR").reshape(-1)[0].decode():
                sys.exit(json.loads(fault)["message"])
            pcm = result.as_numpy("PCM")
            out.writeframes(pcm.tobytes())
            print(f"after {time.monotonic() - started:5.2f} s: {pcm.size / rate:5.2f} s of speech", flush=True)


if __name__ == "__main__":
    try:
        main()
    except InferenceServerException as error:
        sys.exit(f"Triton: {error.message()}")
