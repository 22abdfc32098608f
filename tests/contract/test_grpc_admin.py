"""A gRPC client with the admin key loads, uses and unloads models behind the facade's back."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tritonclient.grpc as triton
from talkies_kit import wire

from tests import audio
from tests.conftest import Server, running_server, wait_until
from tests.contract.test_grpc import encoded, heard, stream
from tests.contract.test_lifecycle import ASR, TTS, loaded, speak, transcribe
from tests.words import normalize

KEY = "a-key-that-the-client-knows"
HEADERS = {"triton-grpc-protocol-admin-key": KEY}
WORDS = "what your country can do for you"
SENTENCE = "One two three four five six seven eight nine ten. "


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with running_server(tmp_path_factory.mktemp("admin"), TRITON_ADMIN_KEY=KEY, MAX_LOADED_MODELS="1") as server:
        yield server


@pytest.fixture
def server(shared: Server) -> Server:
    """With nothing loaded."""
    with shared.http() as http:
        assert http.post("/unload").status_code == 200
    return shared


def load(server: Server, name: str) -> None:
    with triton.InferenceServerClient(server.grpc) as client:
        client.load_model(name, headers=HEADERS, client_timeout=60)


def unload(server: Server, name: str, *, dependents: bool = True) -> None:
    with triton.InferenceServerClient(server.grpc) as client:
        client.unload_model(name, headers=HEADERS, unload_dependents=dependents, client_timeout=60)


def states(server: Server) -> dict[str, str]:
    with triton.InferenceServerClient(server.grpc) as client:
        return {entry.name: entry.state for entry in client.get_model_repository_index(headers=HEADERS).models}


def speech(text: str) -> list[Any]:
    inputs = []
    for name, value in ((wire.TEXT, text), (wire.VOICE, "af_heart"), (wire.LANGUAGE, "")):
        inputs.append(triton.InferInput(name, [1], "BYTES"))
        inputs[-1].set_data_from_numpy(np.array([value.encode()], object))
    inputs.append(triton.InferInput(wire.SPEED, [1], "FP32"))
    inputs[-1].set_data_from_numpy(np.array([1.0], np.float32))
    return inputs


def test_a_model_too_many_makes_room_for_the_next_request(server: Server, jfk: Path) -> None:
    assert transcribe(server, jfk) == 200
    load(server, TTS)
    assert set(loaded(server)) == {ASR, TTS}
    assert float(str(loaded(server)[TTS]["idle_seconds"])) < 5
    assert transcribe(server, jfk) == 200
    wait_until(lambda: set(loaded(server)) == {ASR}, 15, "one model is left")
    # And the other way round: a request for the model that somebody else has loaded.
    load(server, TTS)
    assert speak(server) == 200
    wait_until(lambda: set(loaded(server)) == {TTS}, 15, "one model is left")


def test_the_sweeper_counts_what_grpc_loads_and_uses(start_server: Callable[..., Server]) -> None:
    server = start_server(TRITON_ADMIN_KEY=KEY, MODEL_TTL="6", SWEEPER_INTERVAL="0.5", MAX_LOADED_MODELS="2")
    time.sleep(6)  # longer than the TTL: what is loaded now must not look idle since then
    load(server, TTS)
    begun = time.monotonic()
    while time.monotonic() - begun < 10:
        assert len(stream(server, TTS, speech("Hello."))) == 1
        assert float(str(loaded(server)[TTS]["idle_seconds"])) < 5
        time.sleep(0.5)
    wait_until(lambda: not loaded(server), 20, "the idle model is unloaded")


def test_eviction_waits_for_a_grpc_users_request(server: Server, jfk: Path) -> None:
    load(server, TTS)
    text = SENTENCE * 40
    with ThreadPoolExecutor() as pool:
        speaking = pool.submit(stream, server, TTS, speech(text))
        time.sleep(2)
        begun = time.monotonic()
        assert transcribe(server, jfk) == 200  # evicts, which takes longer than an unload that hangs may
        waited = time.monotonic() - begun
        spoken = speaking.result(timeout=120)
    assert len(spoken) >= 40
    assert waited > 6, "the speech was too short for this test"
    assert set(loaded(server)) == {ASR}


def test_a_grpc_users_long_transcription_is_not_cut_off(server: Server, jfk: Path) -> None:
    load(server, ASR)
    sound = audio.encode(np.tile(audio.decode(jfk), 12), 16_000, "flac", "flac")
    with ThreadPoolExecutor() as pool:
        listening = pool.submit(stream, server, ASR, encoded(sound))
        time.sleep(1)
        assert speak(server) == 200
        results = listening.result(timeout=240)
    assert sorted(int(r.as_numpy(wire.INDEX).reshape(-1)[0]) for r in results) == list(range(len(results)))
    text = normalize(heard(results))
    assert text.count("country") >= 20, text
    assert set(loaded(server)) == {TTS}


def test_a_model_that_grpc_unloads_is_loaded_again(server: Server, jfk: Path) -> None:
    assert transcribe(server, jfk) == 200
    unload(server, ASR)
    assert ASR not in loaded(server)
    assert transcribe(server, jfk) == 200


@pytest.mark.parametrize("name", [ASR, f"{ASR}.engine", "audio_chunks"])
def test_unloading_in_the_middle_of_requests_loses_none(server: Server, jfk: Path, name: str) -> None:
    assert transcribe(server, jfk) == 200
    with ThreadPoolExecutor(4) as pool:
        running = [pool.submit(transcribe, server, jfk) for _ in range(3)]
        wait_until(lambda: loaded(server)[ASR]["active_requests"], 10, "requests are running")
        unload(server, name)
        running.append(pool.submit(transcribe, server, jfk))
        assert [request.result(timeout=120) for request in running] == [200] * 4
    assert loaded(server)[ASR]["active_requests"] == 0


@pytest.mark.parametrize("dependents", [True, False])
def test_an_engine_without_its_ensemble(server: Server, jfk: Path, dependents: bool) -> None:
    load(server, f"{ASR}.engine")
    assert set(loaded(server)) == {ASR}  # it is what takes the memory
    assert transcribe(server, jfk) == 200
    unload(server, ASR, dependents=dependents)
    assert transcribe(server, jfk) == 200
    with server.http() as http:
        assert http.delete(f"/api/ps/{ASR}").status_code == 200
    wait_until(lambda: states(server)[f"{ASR}.engine"] == "UNAVAILABLE", 5, "the engine is unloaded")


def test_audio_chunks_unloaded(server: Server, jfk: Path) -> None:
    assert transcribe(server, jfk) == 200
    unload(server, "audio_chunks")
    assert transcribe(server, jfk) == 200
    unload(server, ASR)
    unload(server, "audio_chunks")
    assert transcribe(server, jfk) == 200
    with server.http() as http:
        assert http.delete(f"/api/ps/{ASR}").status_code == 200
    assert states(server)["audio_chunks"] == "READY"  # it stays, for the next model
