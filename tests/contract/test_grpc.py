"""The models over gRPC, as a Triton user calls them."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import tritonclient.grpc as triton
from talkies.settings import PROJECT
from talkies_kit import wire
from talkies_kit.wire import AsrOptions, Fault
from tritonclient.utils import InferenceServerException

from harness import audio, grpc
from harness.server import Server, wait_until
from harness.words import normalize

EXAMPLES = PROJECT / "scripts" / "examples"


def test_ensemble_takes_bytes(server: Server, jfk: Path) -> None:
    assert server.transcribe(jfk).status_code == 200  # loads the model
    results = grpc.stream(server, "whisper-base", grpc.audio(jfk.read_bytes()))
    assert "what your country can do for you" in normalize(grpc.heard(results))
    assert grpc.text(results[0], wire.LANGUAGE) == "en"
    assert float(results[0].as_numpy(wire.DURATION).reshape(-1)[0]) == pytest.approx(11.0, abs=0.05)


def test_translation(server: Server, shared_audio: Path) -> None:
    path = shared_audio / "fleurs" / "fleurs-es-000.ogg"
    options = AsrOptions(language="es", task="translate")
    results = grpc.stream(server, "whisper-base", grpc.audio(path.read_bytes()), parameters=options.to_parameters())
    words = set(normalize(grpc.heard(results)).split())
    assert len(words & {"the", "of", "and", "to", "a", "in", "is"}) >= 3, words


def test_faults_are_data(server: Server, jfk: Path) -> None:
    assert server.transcribe(jfk).status_code == 200
    [result] = grpc.stream(server, "whisper-base", grpc.audio(b"garbage" * 100))
    fault = Fault.load(grpc.text(result, wire.AUDIO_ERROR))
    assert fault and fault.param == "file"
    [result] = grpc.stream(server, "whisper-base", grpc.audio(jfk.read_bytes()), parameters={"language": "xx"})
    fault = Fault.load(grpc.text(result, wire.ERROR))
    assert fault and fault.param == "language"


KEYS = {"TRITON_ADMIN_KEY": "first-of-the-keys", "GRPC_KEY": "second-of-the-keys", "PATH_KEY": "third-of-the-keys"}
HEADERS = {"triton-grpc-protocol-inference-key": KEYS["GRPC_KEY"]}


@pytest.fixture
def closed(pooled: Callable[..., Server], jfk: Path) -> Server:
    """A server with a key for each part of gRPC, and Whisper in memory."""
    server = pooled(**KEYS)
    assert server.transcribe(jfk).status_code == 200
    return server


@pytest.mark.parametrize("headers", [None, {**HEADERS, "triton-grpc-protocol-inference-key": "wrong"}])
def test_inference_may_need_a_key(closed: Server, jfk: Path, headers: dict[str, str] | None) -> None:
    with pytest.raises(InferenceServerException, match=r"restricted|no longer in valid state"):
        grpc.stream(closed, "whisper-base", grpc.audio(jfk.read_bytes()), headers=headers)
    with triton.InferenceServerClient(closed.grpc) as client:
        assert client.is_server_ready() and client.is_model_ready("whisper-base")
    results = grpc.stream(closed, "whisper-base", grpc.audio(jfk.read_bytes()), headers=HEADERS)
    assert "what your country can do for you" in normalize(grpc.heard(results))
    assert closed.speak().status_code == 200


def test_only_talkies_may_name_a_path(closed: Server, jfk: Path) -> None:
    with closed.http() as http:
        http.put("/v1/files/mine.flac", content=jfk.read_bytes()).raise_for_status()
    staged = {wire.PATH: str(closed.data / "files" / "mine.flac")}
    for key in ({}, {wire.PATH_KEY: "wrong"}):
        [result] = grpc.stream(closed, "whisper-base", grpc.audio(b""), HEADERS, parameters={**staged, **key})
        fault = Fault.load(grpc.text(result, wire.AUDIO_ERROR))
        assert fault and "only talkies itself" in fault.message
    keyed = {wire.PATH_KEY: KEYS["PATH_KEY"]}
    results = grpc.stream(closed, "whisper-base", grpc.audio(b""), HEADERS, parameters={**staged, **keyed})
    assert "what your country can do for you" in normalize(grpc.heard(results))


@pytest.mark.parametrize("path", ["/etc/passwd", "../../etc/passwd", "/proc/self/environ"])
def test_paths_outside_the_audio_folders_are_refused(closed: Server, path: str) -> None:
    named = {wire.PATH: path, wire.PATH_KEY: KEYS["PATH_KEY"]}
    [result] = grpc.stream(closed, "whisper-base", grpc.audio(b""), HEADERS, parameters=named)
    fault = Fault.load(grpc.text(result, wire.AUDIO_ERROR))
    assert fault and "outside the folders" in fault.message


def test_no_key_is_among_the_arguments_of_a_process(closed: Server) -> None:
    """They are what every user of the machine can read."""

    def shown() -> list[str]:
        lines = [Path(f"/proc/{pid}/cmdline").read_text() for pid in (closed.process.pid, *closed.processes())]
        return [key for key in KEYS.values() if any(key in line for line in lines)]

    wait_until(lambda: not shown(), 30, "no key is shown")
    [command] = [Path(f"/proc/{closed.triton_pid()}/cmdline").read_text()]
    assert command.count(":admin-key=*") == command.count(":inference-key=*") == 1


def test_engine_takes_one_chunk(server: Server, jfk: Path) -> None:
    assert server.transcribe(jfk).status_code == 200
    pcm = audio.decode(jfk)[np.newaxis]
    inputs = [triton.InferInput(wire.PCM, pcm.shape, "INT16"), triton.InferInput(wire.START, [1, 1], "FP32")]
    inputs[0].set_data_from_numpy(pcm)
    inputs[1].set_data_from_numpy(np.array([[100.0]], np.float32))
    with triton.InferenceServerClient(server.grpc) as client:
        result = client.infer("whisper-base.engine", inputs, client_timeout=60)
    segments = wire.load_segments(grpc.text(result, wire.SEGMENTS))
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
    assert server.speak().status_code == 200
    results = grpc.stream(server, "kokoro-82m", grpc.speech("One sentence. And another one."))
    assert len(results) == 2
    assert all(
        result.as_numpy(wire.PCM).dtype == np.int16 and result.as_numpy(wire.PCM).size > 12_000 for result in results
    )


def test_example_transcribe(server: Server, jfk: Path) -> None:
    assert server.transcribe(jfk).status_code == 200
    done = _run("grpc_transcribe.py", str(jfk), "--url", server.grpc)
    assert "what your country can do for you" in normalize(done)


def test_example_speak(server: Server, tmp_path: Path) -> None:
    assert server.speak().status_code == 200
    out = tmp_path / "hello.wav"
    _run("grpc_speak.py", "Hello from Triton.", "-o", str(out), "--url", server.grpc)
    assert len(audio.decode(out)) > 10_000


def _run(script: str, *args: str) -> str:
    done = subprocess.run(
        [sys.executable, str(EXAMPLES / script), *args], capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout
