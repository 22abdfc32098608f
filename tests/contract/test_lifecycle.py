"""Residency, models and health over HTTP, on the real tritonserver."""

from __future__ import annotations

import contextlib
import http.client
import json
import re
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import numpy as np
import pytest
from talkies.settings import PROJECT

from harness import audio
from harness.server import ASR, TTS, Server, default_home, wait_until
from harness.speech import COUNTING

LONG_TEXT = COUNTING * 2
"""Some 8 s of speech."""


def test_health(server: Server) -> None:
    with server.http() as http:
        health = http.get("/healthz").json()
    assert health["ok"] is True
    assert re.fullmatch(r"(cuda:\d+, )?cpu", health["device"])
    assert {ASR, TTS} <= set(health["models"])


def test_models(server: Server) -> None:
    models = {model.id: model for model in server.openai().models.list()}
    assert {"whisper-base", "whisper-large-v3", "parakeet-tdt-0.6b-v3", "kokoro-82m", "qwen3-tts-0.6b"} <= set(models)
    assert "whisper-1" not in models
    assert models[TTS].to_dict()["modality"] == "tts"
    assert server.openai().models.retrieve(ASR).id == ASR


def test_a_pooled_connection_outlives_a_pause(server: Server) -> None:
    """Of which most web servers grant five seconds; who sends at that moment gets a reset."""
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=30)
    with contextlib.closing(connection):
        for pause in (0, 6):
            time.sleep(pause)
            connection.request("GET", "/healthz")  # which does not connect anew
            answer = connection.getresponse()
            assert (answer.status, answer.read()[:11]) == (200, b'{"ok":true,')


def test_a_web_socket_is_an_ordinary_404(server: Server) -> None:
    asked = {"connection": "upgrade", "upgrade": "websocket", "sec-websocket-version": "13", "sec-websocket-key": "x"}
    with server.http() as client:
        assert client.get("/v1/realtime", headers=asked).status_code == 404
    assert "websocket" not in server.log().lower()


def test_ps_and_unload(server: Server, jfk: Path) -> None:
    assert server.transcribe(jfk).status_code == 200
    entry = server.loaded()[ASR]
    assert entry["modality"] == "asr"
    assert entry["active_requests"] == 0
    assert 0 <= float(str(entry["idle_seconds"])) < 5
    engine = server.engine_pid(f"{ASR}.engine")
    with server.http() as http:
        assert http.delete(f"/api/ps/{ASR}").status_code == 200
        assert ASR not in server.loaded()
        assert not Path(f"/proc/{engine}").exists()  # its memory is free when the answer comes
        again = http.delete(f"/api/ps/{ASR}")
        assert (again.status_code, again.json()["error"]["code"]) == (404, "not_found")
        assert http.delete("/api/ps/no-such-model").status_code == 404


def test_unload_all(server: Server, jfk: Path) -> None:
    assert (server.transcribe(jfk).status_code, server.speak().status_code) == (200, 200)
    assert set(server.loaded()) == {ASR, TTS}
    with server.http() as http:
        assert set(http.post("/unload").json()["unloaded"]) == {ASR, TTS}
        assert http.post("/unload").json()["unloaded"] == []
    assert server.loaded() == {}
    assert server.transcribe(jfk).status_code == 200


def test_errors_have_both_shapes_everywhere(server: Server) -> None:
    with server.http() as http:
        for response in (http.get("/no/such/route"), http.put("/v1/models"), http.post("/v1/audio/speech", json={})):
            body = response.json()
            assert body.keys() == {"detail", "error"}
            assert body["error"].keys() == {"message", "type", "param", "code"}
            assert response.headers["x-request-id"]


def test_siblings_are_evicted_but_never_under_their_requests(pooled: Callable[..., Server], jfk: Path) -> None:
    server = pooled(MAX_LOADED_MODELS="1")
    ends: dict[str, float] = {}

    def run(name: str, work: Callable[[], httpx.Response]) -> None:
        assert work().status_code == 200
        ends[name] = time.monotonic()

    assert server.speak().status_code == 200
    with ThreadPoolExecutor() as pool:
        speech = pool.submit(run, "speech", lambda: server.speak(LONG_TEXT))
        wait_until(lambda: server.loaded()[TTS]["active_requests"] == 1, 30, "speech is running")
        text = pool.submit(run, "text", lambda: server.transcribe(jfk))
        speech.result(120)
        text.result(120)
    assert ends["speech"] < ends["text"]
    assert set(server.loaded()) == {ASR}


def test_users_of_two_models_share_the_switches(pooled: Callable[..., Server], jfk: Path) -> None:
    """Four requests of each, by turns, with room for one model: those of one model are done together."""
    server = pooled(MAX_LOADED_MODELS="1")
    server.unload()
    before = _loads(server)
    with ThreadPoolExecutor() as pool:
        requests = [pool.submit(request) for request in (lambda: server.transcribe(jfk), server.speak) * 4]
        assert [request.result(300).status_code for request in requests] == [200] * 8
    assert _loads(server) - before <= 4


def _loads(server: Server) -> float:
    with server.http() as http:
        text = http.get("/metrics").text
    return sum(map(float, re.findall(r"(?m)^talkies_model_loads_total\{.*\} (\S+)$", text)))


@pytest.mark.parametrize("way", ["/api/ps/whisper-base", "/unload"])
def test_who_hangs_up_on_an_unload_holds_nobody_up(server: Server, jfk: Path, way: str) -> None:
    long = audio.encode(np.tile(audio.decode(jfk), 24), 16_000, "flac", "flac")
    server.unload()
    assert server.transcribe(jfk).status_code == 200
    with ThreadPoolExecutor() as pool, server.http(timeout=1) as http:
        request = pool.submit(server.transcribe, long)
        wait_until(lambda: server.active() == 1, 60, "the file is being transcribed")
        with pytest.raises(httpx.ReadTimeout):
            http.request("POST" if way == "/unload" else "DELETE", way)
        assert server.speak().status_code == 200
        assert not request.done()
        assert request.result(300).status_code == 200
    assert set(server.loaded()) == {ASR, TTS}


def test_idle_models_go(pooled: Callable[..., Server], jfk: Path) -> None:
    server = pooled(MODEL_TTL="1.5", SWEEPER_INTERVAL="0.2")
    assert server.transcribe(jfk).status_code == 200
    wait_until(lambda: not server.loaded(), 60, "the idle model is unloaded")


def test_only_what_is_enabled_and_preloaded_and_for_ever(start_server: Callable[..., Server]) -> None:
    server = start_server(ENABLED_MODELS=f"{ASR},{TTS}", PRELOAD=TTS, MODEL_TTL="0", SWEEPER_INTERVAL="0.2")
    assert {model.id for model in server.openai().models.list()} == {ASR, TTS}
    with server.http() as http:
        assert http.get("/v1/models/whisper-large-v3").status_code == 404
    time.sleep(1)
    assert set(server.loaded()) == {TTS}


def test_a_model_may_have_its_own_bounds(start_server: Callable[..., Server], tmp_path: Path) -> None:
    models = json.loads((PROJECT / "models.json").read_text())
    models["models"][TTS] |= {"max_concurrency": 1, "max_queue": 0}
    (tmp_path / "models.json").write_text(json.dumps(models))
    server = start_server(MODELS_FILE=str(tmp_path / "models.json"), PRELOAD=TTS)
    running = threading.Thread(target=server.speak, args=(LONG_TEXT,))
    running.start()
    wait_until(lambda: server.loaded()[TTS]["active_requests"] == 1, 60, "speech is running")
    with server.http() as http:
        refused = http.post("/v1/audio/speech", json={"model": TTS, "input": "Hello."})
    assert (refused.status_code, refused.json()["error"]["code"]) == (503, "overloaded")
    assert int(refused.headers["retry-after"]) > 0
    running.join(120)
    assert server.speak().status_code == 200


def test_the_longest_unused_of_several_goes(start_server: Callable[..., Server], jfk: Path, tmp_path: Path) -> None:
    models = json.loads((PROJECT / "models.json").read_text())
    models["models"]["whisper-copy"] = models["models"][ASR]
    (tmp_path / "data" / "models").mkdir(parents=True)
    for slug, weights in ((ASR, ASR), (TTS, TTS), ("whisper-copy", ASR)):
        (tmp_path / "data" / "models" / slug).symlink_to(default_home() / "models" / weights)
    (tmp_path / "models.json").write_text(json.dumps(models))
    server = start_server(MODELS_FILE=str(tmp_path / "models.json"), MAX_LOADED_MODELS="2")
    assert server.transcribe(jfk).status_code == server.speak().status_code == server.transcribe(jfk).status_code == 200
    with server.http() as http:
        files = {"file": ("jfk.flac", jfk.read_bytes())}
        answer = http.post("/v1/audio/transcriptions", files=files, data={"model": "whisper-copy"})
    assert answer.status_code == 200, answer.text
    assert set(server.loaded()) == {ASR, "whisper-copy"}


def test_full_queue(pooled: Callable[..., Server]) -> None:
    server = pooled(MAX_CONCURRENCY="1", MAX_QUEUE="1")
    assert server.speak().status_code == 200
    with ThreadPoolExecutor() as pool:
        answers = [pool.submit(server.speak, LONG_TEXT)]
        wait_until(lambda: server.active() == 1, 60, "speech is running")
        answers += [pool.submit(server.speak, "Hello.") for _ in range(3)]
        statuses = sorted(answer.result(120).status_code for answer in answers)
    refused = next(answer.result() for answer in answers if answer.result().status_code != 200)
    assert statuses == [200, 200, 503, 503]
    assert refused.json()["error"]["code"] == "overloaded"
    assert int(refused.headers["retry-after"]) > 0
    assert server.speak().status_code == 200


def test_hanging_up_frees_the_place(pooled: Callable[..., Server], jfk: Path) -> None:
    server = pooled(MAX_LOADED_MODELS="1")
    assert server.speak().status_code == 200
    with pytest.raises(httpx.ReadTimeout):
        httpx.post(f"{server.url}/v1/audio/speech", json={"model": TTS, "input": LONG_TEXT * 5}, timeout=1)
    wait_until(lambda: server.active() == 0, 60, "the request is gone")
    # The long speech is not being made any more, and does not keep its model from being evicted.
    assert server.transcribe(jfk).status_code == 200
    assert list((server.data / "uploads").iterdir()) == []


def test_surplus_tone_is_silent_text(server: Server) -> None:
    data = audio.encode(audio.tone(3), 16_000, "wav", "pcm_s16le")
    with server.http() as http:
        answer = http.post("/v1/audio/transcriptions", files={"file": ("a.wav", data)}, data={"model": ASR})
    assert answer.json() == {"text": ""}
