"""Transcribe a file over Triton's gRPC API: the file's bytes in, segments out as soon as each is known.

    .venv/bin/python scripts/examples/grpc_transcribe.py tests/data/jfk.flac

Needs only `tritonclient[grpc]`. The model must be loaded, and loading takes the admin key that talkies keeps to itself:
start the server with TALKIES_PRELOAD=whisper-base, or send it one transcription over HTTP first.
"""

from __future__ import annotations

import argparse
import json
import queue
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from tritonclient.grpc import InferenceServerClient, InferInput, InferResult
from tritonclient.utils import InferenceServerException


def stream(
    client: InferenceServerClient, model: str, inputs: list[InferInput], parameters: dict[str, str], timeout: float
) -> Iterator[InferResult]:
    """The responses to one request, until the one that Triton marks as the last."""
    responses: queue.Queue[tuple[Any, InferenceServerException | None]] = queue.Queue()
    client.start_stream(lambda result, error: responses.put((result, error)), stream_timeout=timeout)
    try:
        client.async_stream_infer(model, inputs, parameters=parameters, enable_empty_final_response=True)
        while True:
            result, error = responses.get(timeout=timeout)
            if error is not None:
                raise error
            if result.get_output("ERROR") is not None:
                yield result
            if result.get_response().parameters["triton_final_response"].bool_param:
                return
    finally:
        client.stop_stream()


def text(result: InferResult, name: str) -> str:
    """A STRING output with one element."""
    return str(result.as_numpy(name).reshape(-1)[0].decode())


def main() -> None:
    parser = argparse.ArgumentParser(description="Transcribe a file over gRPC.")
    parser.add_argument("file", type=Path)
    parser.add_argument("--url", default="127.0.0.1:8001", help="host:port of Triton's gRPC endpoint")
    parser.add_argument("--model", default="whisper-base")
    parser.add_argument("--language", default="", help="ISO 639-1 code; detected when not given")
    parser.add_argument("--timeout", type=float, default=600, help="seconds")
    args = parser.parse_args()

    audio = np.frombuffer(args.file.read_bytes(), np.uint8)
    tensor = InferInput("AUDIO", [audio.size], "UINT8")
    tensor.set_data_from_numpy(audio)
    parameters = {"language": args.language} if args.language else {}

    client = InferenceServerClient(args.url)
    if not client.is_model_ready(args.model, client_timeout=10):
        sys.exit(f"{args.model} is not loaded: set TALKIES_PRELOAD={args.model}, or use it once over HTTP.")
    for result in stream(client, args.model, [tensor], parameters, args.timeout):
        # Faults are data: AUDIO_ERROR is about the file, ERROR about the recognition of one chunk.
        for fault in filter(None, (text(result, "AUDIO_ERROR"), text(result, "ERROR"))):
            sys.exit(json.loads(fault)["message"])
        for segment in json.loads(text(result, "SEGMENTS")):
            print(f"{segment['start']:8.2f} {segment['end']:8.2f} {segment['text'].strip()}", flush=True)


if __name__ == "__main__":
    try:
        main()
    except InferenceServerException as error:
        sys.exit(f"Triton: {error.message()}")
