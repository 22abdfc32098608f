"""The models over gRPC, as a Triton user calls them."""

from __future__ import annotations

import queue
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tritonclient.grpc as triton
from talkies_kit import wire
from talkies_kit.wire import AsrOptions, Fault
from tritonclient.utils import InferenceServerException

from tests import audio
from tests.conftest import PROJECT, Server
from tests.contract.test_lifecycle import speak, transcribe
from tests.words import normalize

EXAMPLES = PROJECT / "scripts" / "examples"


def stream(server: Server, model: str, inputs: list[Any], **options: Any) -> list[Any]:
    """All responses to one streamed request."""
    answers: queue.Queue[tuple[Any, Exception | None]] = queue.Queue()
    results = []
    with triton.InferenceServerClient(server.grpc) as client:
        client.start_stream(lambda result, error: answers.put((result, error)))
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


def encoded(data: bytes) -> list[Any]:
    tensor = triton.InferInput(wire.AUDIO, [len(data)], "UINT8")
    tensor.set_data_from_numpy(np.frombuffer(data, np.uint8))
    return [tensor]


def text(result: Any, name: str) -> str:
    return str(result.as_numpy(name).reshape(-1)[0].decode())


def heard(results: list[Any]) -> str:
    return " ".join(s.text for result in results for s in wire.load_segments(text(result, wire.SEGMENTS)))


def test_ensemble_takes_bytes(server: Server, jfk: Path) -> None:
    assert transcribe(server, jfk) == 200  # loads the model
    results = stream(server, "whisper-base", encoded(jfk.read_bytes()))
    assert "what your country can do for you" in normalize(heard(results))
    assert text(results[0], wire.LANGUAGE) == "en"
    assert float(results[0].as_numpy(wire.DURATION).reshape(-1)[0]) == pytest.approx(11.0, abs=0.05)


def test_translation(server: Server, shared_audio: Path) -> None:
    path = shared_audio / "fleurs" / "fleurs-es-000.ogg"
    options = AsrOptions(language="es", task="translate")
    results = stream(server, "whisper-base", encoded(path.read_bytes()), parameters=options.to_parameters())
    words = set(normalize(heard(results)).split())
    assert len(words & {"the", "of", "and", "to", "a", "in", "is"}) >= 3, words


def test_faults_are_data(server: Server, jfk: Path) -> None:
    assert transcribe(server, jfk) == 200
    [result] = stream(server, "whisper-base", encoded(b"garbage" * 100))
    fault = Fault.load(text(result, wire.AUDIO_ERROR))
    assert fault and fault.param == "file"
    [result] = stream(server, "whisper-base", encoded(jfk.read_bytes()), parameters={"language": "xx"})
    fault = Fault.load(text(result, wire.ERROR))
    assert fault and fault.param == "language"


@pytest.mark.parametrize("path", ["/etc/passwd", "../../etc/passwd", "/proc/self/environ"])
def test_paths_outside_the_audio_folders_are_refused(server: Server, jfk: Path, path: str) -> None:
    assert transcribe(server, jfk) == 200
    [result] = stream(server, "whisper-base", encoded(b""), parameters={wire.PATH: path})
    assert Fault.load(text(result, wire.AUDIO_ERROR))


def test_engine_takes_one_chunk(server: Server, jfk: Path) -> None:
    assert transcribe(server, jfk) == 200
    pcm = audio.decode(jfk)[np.newaxis]
    inputs = [triton.InferInput(wire.PCM, pcm.shape, "INT16"), triton.InferInput(wire.START, [1, 1], "FP32")]
    inputs[0].set_data_from_numpy(pcm)
    inputs[1].set_data_from_numpy(np.array([[100.0]], np.float32))
    with triton.InferenceServerClient(server.grpc) as client:
        result = client.infer("whisper-base.engine", inputs, client_timeout=60)
    segments = wire.load_segments(text(result, wire.SEGMENTS))
    assert "what your country can do for you" in normalize(" ".join(s.text for s in segments))
    assert segments[0].start >= 100


def test_repository_api_is_closed(server: Server) -> None:
    with triton.InferenceServerClient(server.grpc) as client:
        for call in (
            lambda: client.unload_model("whisper-base"),
            lambda: client.load_model("kokoro-82m"),
            client.get_model_repository_index,
        ):
            with pytest.raises(InferenceServerException, match="restricted"):
                call()


def test_speech_streams_sentence_by_sentence(server: Server) -> None:
    assert speak(server) == 200
    inputs = []
    for name, value in ((wire.TEXT, "One sentence. And another one."), (wire.VOICE, "af_heart"), (wire.LANGUAGE, "")):
        inputs.append(triton.InferInput(name, [1], "BYTES"))
        inputs[-1].set_data_from_numpy(np.array([value.encode()], object))
    inputs.append(triton.InferInput(wire.SPEED, [1], "FP32"))
    inputs[-1].set_data_from_numpy(np.array([1.0], np.float32))
    results = stream(server, "kokoro-82m", inputs)
    assert len(results) == 2
    assert all(
        result.as_numpy(wire.PCM).dtype == np.int16 and result.as_numpy(wire.PCM).size > 12_000 for result in results
    )


def test_example_transcribe(server: Server, jfk: Path) -> None:
    assert transcribe(server, jfk) == 200
    done = _run("grpc_transcribe.py", str(jfk), "--url", server.grpc)
    assert "what your country can do for you" in normalize(done)


def test_example_speak(server: Server, tmp_path: Path) -> None:
    assert speak(server) == 200
    out = tmp_path / "hello.wav"
    _run("grpc_speak.py", "Hello from Triton.", "-o", str(out), "--url", server.grpc)
    assert len(audio.decode(out)) > 10_000


def _run(script: str, *args: str) -> str:
    done = subprocess.run(
        [sys.executable, str(EXAMPLES / script), *args], capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout
