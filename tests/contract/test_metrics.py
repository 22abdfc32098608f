"""What the running server counts and logs about real work."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from harness.server import ASR, TTS, Server, wait_until
from harness.speech import COUNTING

WORDS = "your country can do for you"


Samples = dict[tuple[str, frozenset[tuple[str, str]]], float]


def samples(server: Server) -> Samples:
    with server.http() as http:
        text = http.get("/metrics").text
    return {
        (sample.name, frozenset(sample.labels.items())): float(sample.value)
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def value(server: Server, name: str, **labels: str) -> float:
    """Of the sample; 0 where there is none yet."""
    return samples(server).get((name, frozenset(labels.items())), 0.0)


def test_work_is_counted(pooled: Callable[..., Server], jfk: Path) -> None:
    server = pooled(LOG_LEVEL="debug")
    server.unload()
    before = samples(server)

    def grown(name: str, **labels: str) -> float:
        return value(server, name, **labels) - before.get((name, frozenset(labels.items())), 0.0)

    assert server.transcribe(jfk).status_code == server.transcribe(jfk).status_code == 200
    assert server.speak().status_code == 200  # evicts the other
    with server.http() as http:
        assert http.delete(f"/api/ps/{TTS}").status_code == 200
    route = "/v1/audio/transcriptions"
    assert grown("talkies_requests_total", route=route, method="POST", status="200", model=ASR) == 2
    assert grown("talkies_request_seconds_count", route=route, model=ASR) == 2
    heard = grown("talkies_transcribed_audio_seconds_total", model=ASR, status="200")
    assert heard == pytest.approx(22, abs=0.1)
    assert 0.2 < grown("talkies_spoken_audio_seconds_total", model=TTS, status="200") < 5
    for model, count, modality, reason in ((ASR, 2, "asr", "room"), (TTS, 1, "tts", "asked")):
        assert grown("talkies_model_loads_total", model=model, result="ok") == 1
        assert grown("talkies_model_load_seconds_sum", model=model) > 0.2
        assert grown("talkies_model_unloads_total", model=model, reason=reason) == 1
        assert grown("talkies_engine_seconds_count", model=model, modality=modality) == count
        assert grown("talkies_queue_seconds_count", model=model) == count
        assert value(server, "talkies_active_requests", model=model) == 0
    assert grown("talkies_received_bytes_total", route=route) > 2 * jfk.stat().st_size


def test_a_running_request_is_seen(server: Server) -> None:
    assert server.speak().status_code == 200
    text = COUNTING * 2
    thread = threading.Thread(target=server.speak, args=(text,))
    thread.start()
    wait_until(lambda: value(server, "talkies_active_requests", model=TTS) == 1, 60, "it is counted")
    assert value(server, "talkies_requests_in_flight") == 2  # and the one that asks
    assert (value(server, "talkies_running_requests"), value(server, "talkies_queued_requests")) == (1, 0)
    [residents] = [dict(labels) for name, labels in samples(server) if name == "talkies_resident_models_info"]
    assert residents["max"] == "2" and TTS in residents["running"].split(",") and residents["waiting"] == ""
    thread.join(120)
    wait_until(lambda: value(server, "talkies_active_requests", model=TTS) == 0, 60, "it is no longer counted")


def test_an_answer_says_what_it_took(server: Server, jfk: Path) -> None:
    with server.http() as http:
        http.delete(f"/api/ps/{ASR}")
        seen = []
        for _ in range(2):
            files = {"file": ("jfk.flac", jfk.read_bytes())}
            answer = http.post("/v1/audio/transcriptions", files=files, data={"model": ASR})
            parts = dict(part.split(";dur=") for part in answer.headers["server-timing"].split(", "))
            seen.append({name: float(milliseconds) for name, milliseconds in parts.items()})
            total = int(answer.headers["openai-processing-ms"])
            assert sum(seen[-1].values()) <= total + 1
            assert seen[-1]["engine"] > 100
    assert seen[0]["load"] > 200 and seen[1]["load"] == 0


def test_request_ids(server: Server) -> None:
    with server.http() as http:
        assert http.get("/healthz").headers["x-request-id"].startswith("req_")
        given = "0af7651916cd43dd8448eb211c80319c"
        assert http.get("/v1/models", headers={"x-request-id": given}).headers["x-request-id"] == given
    wait_until(lambda: given in server.log(), 60, "the request is logged")
    line = next(json.loads(line) for line in server.log().splitlines() if given in line)
    assert (line["event"], line["path"], line["status"]) == ("request", "/v1/models", 200)


@pytest.mark.parametrize("logged", [False, True])
def test_content_is_logged_only_if_asked_for(pooled: Callable[..., Server], jfk: Path, logged: bool) -> None:
    server = pooled(LOG_LEVEL="debug", **({"LOG_CONTENT": "true"} if logged else {}))
    said = "The secret word is rhubarb."
    assert server.transcribe(jfk).status_code == server.speak(said).status_code == 200
    with server.http() as http:
        stream = {"model": ASR, "stream": "true"}
        events = http.post("/v1/audio/transcriptions", files={"file": ("jfk.flac", jfk.read_bytes())}, data=stream)
        assert WORDS in events.text
        http.get("/v1/models", params={"q": "rhubarb-in-the-query"})
    log = server.log()
    lines = [json.loads(line) for line in log.splitlines() if line.startswith("{")]
    assert "rhubarb-in-the-query" not in log
    assert [line["text"] for line in lines if line["event"] == "input"] == [said] * logged
    transcripts = [line["text"] for line in lines if line["event"] == "transcript"]
    assert len(transcripts) == 2 * logged and all(WORDS in text for text in transcripts)
    assert ("rhubarb" in log) is (WORDS in log) is logged
