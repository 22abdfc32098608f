"""A gRPC client with the admin key loads, uses and unloads models behind the facade's back."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import tritonclient.grpc as triton
from talkies_kit import wire

from harness import audio, grpc
from harness.server import ASR, TTS, Server, running, wait_until
from harness.speech import COUNTING
from harness.words import normalize

KEY = "a-key-that-the-client-knows"
HEADERS = {"triton-grpc-protocol-admin-key": KEY}
WORDS = "what your country can do for you"


@pytest.fixture(scope="module")
def shared(prepared: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with running(tmp_path_factory.mktemp("admin"), TRITON_ADMIN_KEY=KEY, MAX_LOADED_MODELS="1") as server:
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


def test_a_model_too_many_makes_room_for_the_next_request(server: Server, jfk: Path) -> None:
    assert server.transcribe(jfk).status_code == 200
    load(server, TTS)
    assert set(server.loaded()) == {ASR, TTS}
    assert float(str(server.loaded()[TTS]["idle_seconds"])) < 5
    assert server.transcribe(jfk).status_code == 200
    wait_until(lambda: set(server.loaded()) == {ASR}, 60, "one model is left")
    # And the other way round: a request for the model that somebody else has loaded.
    load(server, TTS)
    assert server.speak().status_code == 200
    wait_until(lambda: set(server.loaded()) == {TTS}, 60, "one model is left")


def test_the_sweeper_counts_what_grpc_loads_and_uses(start_server: Callable[..., Server]) -> None:
    server = start_server(TRITON_ADMIN_KEY=KEY, MODEL_TTL="3", SWEEPER_INTERVAL="0.2", MAX_LOADED_MODELS="2")
    time.sleep(3)  # as long as the TTL: what is loaded now must not look idle since then
    load(server, TTS)
    begun = time.monotonic()
    while time.monotonic() - begun < 5:
        assert len(grpc.stream(server, TTS, grpc.speech("Hello."))) == 1
        assert server.loaded()[TTS]["idle_seconds"] < 3
        time.sleep(0.2)
    wait_until(lambda: not server.loaded(), 60, "the idle model is unloaded")


def test_eviction_waits_for_a_grpc_users_request(server: Server, jfk: Path) -> None:
    load(server, TTS)
    text = COUNTING * 16
    with ThreadPoolExecutor() as pool:
        speaking = pool.submit(grpc.stream, server, TTS, grpc.speech(text))
        time.sleep(0.5)
        begun = time.monotonic()
        assert server.transcribe(jfk).status_code == 200  # evicts, which takes longer than an unload that hangs may
        waited = time.monotonic() - begun
        spoken = speaking.result(timeout=120)
    assert len(spoken) >= 16
    assert waited > 6, "the speech was too short for this test"
    assert set(server.loaded()) == {ASR}


def test_a_grpc_users_long_transcription_is_not_cut_off(server: Server, jfk: Path) -> None:
    load(server, ASR)
    sound = audio.encode(np.tile(audio.decode(jfk), 8), 16_000, "flac", "flac")
    with ThreadPoolExecutor() as pool:
        listening = pool.submit(grpc.stream, server, ASR, grpc.audio(sound))
        time.sleep(1)
        assert server.speak().status_code == 200
        results = listening.result(timeout=240)
    assert sorted(int(r.as_numpy(wire.INDEX).reshape(-1)[0]) for r in results) == list(range(len(results)))
    text = normalize(grpc.heard(results))
    assert text.count("country") >= 14, text
    assert set(server.loaded()) == {TTS}


def test_a_model_that_grpc_unloads_is_loaded_again(server: Server, jfk: Path) -> None:
    assert server.transcribe(jfk).status_code == 200
    unload(server, ASR)
    assert ASR not in server.loaded()
    assert server.transcribe(jfk).status_code == 200


@pytest.mark.parametrize("name", [ASR, f"{ASR}.engine", "audio_chunks"])
def test_unloading_in_the_middle_of_requests_loses_none(server: Server, jfk: Path, name: str) -> None:
    assert server.transcribe(jfk).status_code == 200
    with ThreadPoolExecutor(4) as pool:
        running = [pool.submit(server.transcribe, jfk) for _ in range(3)]
        wait_until(lambda: server.loaded()[ASR]["active_requests"], 60, "requests are running")
        unload(server, name)
        running.append(pool.submit(server.transcribe, jfk))
        assert [request.result(timeout=120).status_code for request in running] == [200] * 4
    assert server.loaded()[ASR]["active_requests"] == 0


@pytest.mark.parametrize("dependents", [True, False])
def test_an_engine_without_its_ensemble(server: Server, jfk: Path, dependents: bool) -> None:
    load(server, f"{ASR}.engine")
    assert set(server.loaded()) == {ASR}  # it is what takes the memory
    assert server.transcribe(jfk).status_code == 200
    unload(server, ASR, dependents=dependents)
    assert server.transcribe(jfk).status_code == 200
    with server.http() as http:
        assert http.delete(f"/api/ps/{ASR}").status_code == 200
    wait_until(lambda: states(server)[f"{ASR}.engine"] == "UNAVAILABLE", 60, "the engine is unloaded")


def test_audio_chunks_unloaded(server: Server, jfk: Path) -> None:
    assert server.transcribe(jfk).status_code == 200
    unload(server, "audio_chunks")
    assert server.transcribe(jfk).status_code == 200
    unload(server, ASR)
    unload(server, "audio_chunks")
    assert server.transcribe(jfk).status_code == 200
    wait_until(lambda: len(server.pids("audio_chunks")) == 2, 60, "the copies that were unloaded are gone")
    before = server.pids("audio_chunks")
    with server.http() as http:
        assert http.delete(f"/api/ps/{ASR}").status_code == 200
    time.sleep(3)  # somebody looks after its processes every two seconds
    assert server.pids("audio_chunks") == before  # it stays, for the next model
    assert states(server)["audio_chunks"] == "READY"
    assert server.transcribe(jfk).status_code == 200
