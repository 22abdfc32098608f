"""Residency, models and health over HTTP, on the real tritonserver."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests import audio
from tests.conftest import PROJECT, Server, home, wait_until

ASR, TTS = "whisper-base", "kokoro-82m"


def transcribe(server: Server, path: Path) -> int:
    with server.http() as http:
        files = {"file": (path.name, path.read_bytes())}
        return http.post("/v1/audio/transcriptions", files=files, data={"model": ASR}).status_code


def speak(server: Server, text: str = "Hello.") -> int:
    with server.http() as http:
        return http.post("/v1/audio/speech", json={"model": TTS, "input": text}).status_code


def loaded(server: Server) -> dict[str, dict[str, object]]:
    with server.http() as http:
        return {entry["model"]: entry for entry in http.get("/api/ps").json()["models"]}


def test_health(server: Server) -> None:
    with server.http() as http:
        health = http.get("/healthz").json()
    assert health["ok"] is True
    assert health["device"] == "cpu"
    assert {ASR, TTS} <= set(health["models"])


def test_models(server: Server) -> None:
    models = {model.id: model for model in server.openai().models.list()}
    assert {"whisper-base", "whisper-large-v3", "parakeet-tdt-0.6b-v3", "kokoro-82m", "qwen3-tts-0.6b"} <= set(models)
    assert "whisper-1" not in models
    assert models[TTS].to_dict()["modality"] == "tts"
    assert server.openai().models.retrieve(ASR).id == ASR


def test_ps_and_unload(server: Server, jfk: Path) -> None:
    assert transcribe(server, jfk) == 200
    entry = loaded(server)[ASR]
    assert entry["modality"] == "asr"
    assert entry["active_requests"] == 0
    assert 0 <= float(str(entry["idle_seconds"])) < 5
    engine = server.engine_pid(f"{ASR}.engine")
    with server.http() as http:
        assert http.delete(f"/api/ps/{ASR}").status_code == 200
        assert ASR not in loaded(server)
        assert not Path(f"/proc/{engine}").exists()  # its memory is free when the answer comes
        again = http.delete(f"/api/ps/{ASR}")
        assert (again.status_code, again.json()["error"]["code"]) == (404, "not_found")
        assert http.delete("/api/ps/no-such-model").status_code == 404


def test_unload_all(server: Server, jfk: Path) -> None:
    assert (transcribe(server, jfk), speak(server)) == (200, 200)
    assert set(loaded(server)) == {ASR, TTS}
    with server.http() as http:
        assert set(http.post("/unload").json()["unloaded"]) == {ASR, TTS}
        assert http.post("/unload").json()["unloaded"] == []
    assert loaded(server) == {}
    assert transcribe(server, jfk) == 200


def test_errors_have_both_shapes_everywhere(server: Server) -> None:
    with server.http() as http:
        for response in (http.get("/no/such/route"), http.put("/v1/models"), http.post("/v1/audio/speech", json={})):
            body = response.json()
            assert body.keys() == {"detail", "error"}
            assert body["error"].keys() == {"message", "type", "param", "code"}
            assert response.headers["x-request-id"]


def test_siblings_are_evicted_but_never_under_their_requests(start_server: Callable[..., Server], jfk: Path) -> None:
    server = start_server(MAX_LOADED_MODELS="1")
    results: dict[str, tuple[int, float]] = {}

    def run(name: str, work: Callable[[], int]) -> None:
        results[name] = (work(), time.monotonic())

    long_text = "This sentence is spoken again and again until the whole speech is long enough. " * 6
    speech = threading.Thread(target=run, args=("speech", lambda: speak(server, long_text)))
    speech.start()
    wait_until(lambda: loaded(server).get(TTS, {}).get("active_requests") == 1, 30, "speech is running")
    text = threading.Thread(target=run, args=("text", lambda: transcribe(server, jfk)))
    text.start()
    speech.join(120)
    text.join(120)
    assert results["speech"][0] == results["text"][0] == 200
    assert results["speech"][1] < results["text"][1]
    assert set(loaded(server)) == {ASR}


def test_idle_models_go(start_server: Callable[..., Server], jfk: Path) -> None:
    server = start_server(MODEL_TTL="1s", SWEEPER_INTERVAL="0.2", PRELOAD=ASR)
    assert transcribe(server, jfk) == 200
    wait_until(lambda: not loaded(server), 15, "the idle model is unloaded")


def test_only_what_is_enabled_and_preloaded_and_for_ever(start_server: Callable[..., Server]) -> None:
    server = start_server(ENABLED_MODELS=f"{ASR},{TTS}", PRELOAD=TTS, MODEL_TTL="0", SWEEPER_INTERVAL="0.2")
    assert {model.id for model in server.openai().models.list()} == {ASR, TTS}
    with server.http() as http:
        assert http.get("/v1/models/whisper-large-v3").status_code == 404
    time.sleep(2)
    assert set(loaded(server)) == {TTS}


def test_a_model_may_have_its_own_bounds(start_server: Callable[..., Server], tmp_path: Path) -> None:
    models = json.loads((PROJECT / "models.json").read_text())
    models["models"][TTS] |= {"max_concurrency": 1, "max_queue": 0}
    (tmp_path / "models.json").write_text(json.dumps(models))
    server = start_server(MODELS_FILE=str(tmp_path / "models.json"), PRELOAD=TTS)
    running = threading.Thread(target=speak, args=(server, "One two three four five six seven. " * 10))
    running.start()
    wait_until(lambda: loaded(server)[TTS]["active_requests"] == 1, 10, "speech is running")
    with server.http() as http:
        refused = http.post("/v1/audio/speech", json={"model": TTS, "input": "Hello."})
    assert (refused.status_code, refused.json()["error"]["code"]) == (503, "overloaded")
    assert int(refused.headers["retry-after"]) > 0
    running.join(120)
    assert speak(server) == 200


def test_the_longest_unused_of_several_goes(start_server: Callable[..., Server], jfk: Path, tmp_path: Path) -> None:
    models = json.loads((PROJECT / "models.json").read_text())
    models["models"]["whisper-copy"] = models["models"][ASR]
    (tmp_path / "data" / "models").mkdir(parents=True)
    for slug, weights in ((ASR, ASR), (TTS, TTS), ("whisper-copy", ASR)):
        (tmp_path / "data" / "models" / slug).symlink_to(home() / "models" / weights)
    (tmp_path / "models.json").write_text(json.dumps(models))
    server = start_server(MODELS_FILE=str(tmp_path / "models.json"), MAX_LOADED_MODELS="2")
    assert transcribe(server, jfk) == speak(server) == transcribe(server, jfk) == 200
    with server.http() as http:
        files = {"file": ("jfk.flac", jfk.read_bytes())}
        answer = http.post("/v1/audio/transcriptions", files=files, data={"model": "whisper-copy"})
    assert answer.status_code == 200, answer.text
    assert set(loaded(server)) == {ASR, "whisper-copy"}


def test_full_queue(start_server: Callable[..., Server]) -> None:
    server = start_server(MAX_CONCURRENCY="1", MAX_QUEUE="1", PRELOAD=TTS)
    text = "One two three four five six seven eight nine ten. " * 6
    statuses: list[int] = []
    threads = [threading.Thread(target=lambda: statuses.append(speak(server, text))) for _ in range(4)]
    for thread in threads:
        thread.start()
        time.sleep(0.2)
    with server.http() as http:
        refused = http.post("/v1/audio/speech", json={"model": TTS, "input": "Hello."})
    for thread in threads:
        thread.join(120)
    assert sorted(statuses) == [200, 200, 503, 503]
    assert refused.status_code == 503
    assert refused.json()["error"]["code"] == "overloaded"
    assert int(refused.headers["retry-after"]) > 0
    assert speak(server) == 200


def test_hanging_up_frees_the_place(start_server: Callable[..., Server], jfk: Path) -> None:
    import httpx

    server = start_server(PRELOAD=TTS)
    text = "One two three four five six seven eight nine ten. " * 20
    with server.http(), pytest.raises(httpx.ReadTimeout):
        httpx.post(f"{server.url}/v1/audio/speech", json={"model": TTS, "input": text}, timeout=2)
    wait_until(lambda: loaded(server)[TTS]["active_requests"] == 0, 5, "the request is gone")
    started = time.monotonic()
    assert speak(server) == 200
    assert time.monotonic() - started < 10  # the long speech is not being made any more
    assert transcribe(server, jfk) == 200  # and does not keep its model from being evicted
    assert list((server.data / "uploads").iterdir()) == []


def test_surplus_tone_is_silent_text(server: Server) -> None:
    data = audio.encode(audio.tone(3), 16_000, "wav", "pcm_s16le")
    with server.http() as http:
        answer = http.post("/v1/audio/transcriptions", files={"file": ("a.wav", data)}, data={"model": ASR})
    assert answer.json() == {"text": ""}
