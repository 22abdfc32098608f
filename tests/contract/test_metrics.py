"""What the running server counts and logs about real work."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.conftest import Server, wait_until
from tests.contract.test_lifecycle import ASR, TTS, speak, transcribe

WORDS = "your country can do for you"


def value(server: Server, name: str, **labels: str) -> float:
    """Of the sample; 0 where there is none yet."""
    with server.http() as http:
        text = http.get("/metrics").text
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            if sample.name == name and sample.labels == labels:
                return float(sample.value)
    return 0.0


def test_work_is_counted(start_server: Callable[..., Server], jfk: Path) -> None:
    server = start_server(MAX_LOADED_MODELS="1")
    assert transcribe(server, jfk) == transcribe(server, jfk) == 200
    assert speak(server) == 200  # evicts the other
    with server.http() as http:
        assert http.delete(f"/api/ps/{TTS}").status_code == 200
    route = "/v1/audio/transcriptions"
    assert value(server, "talkies_requests_total", route=route, method="POST", status="200", model=ASR) == 2
    assert value(server, "talkies_request_seconds_count", route=route, model=ASR) == 2
    heard = value(server, "talkies_transcribed_audio_seconds_total", model=ASR, status="200")
    assert heard == pytest.approx(22, abs=0.1)
    assert 0.2 < value(server, "talkies_spoken_audio_seconds_total", model=TTS, status="200") < 5
    for model, count, modality, reason in ((ASR, 2, "asr", "room"), (TTS, 1, "tts", "asked")):
        assert value(server, "talkies_model_loads_total", model=model, result="ok") == 1
        assert value(server, "talkies_model_load_seconds_sum", model=model) > 0.2
        assert value(server, "talkies_model_unloads_total", model=model, reason=reason) == 1
        assert value(server, "talkies_engine_seconds_count", model=model, modality=modality) == count
        assert value(server, "talkies_queue_seconds_count", model=model) == count
        assert value(server, "talkies_active_requests", model=model) == 0
    assert value(server, "talkies_received_bytes_total", route=route) > 2 * jfk.stat().st_size


def test_a_running_request_is_seen(server: Server) -> None:
    assert speak(server) == 200
    text = "One two three four five six seven eight nine ten. " * 5
    thread = threading.Thread(target=speak, args=(server, text))
    thread.start()
    wait_until(lambda: value(server, "talkies_active_requests", model=TTS) == 1, 10, "it is counted")
    assert value(server, "talkies_requests_in_flight") == 2  # and the one that asks
    thread.join(120)
    wait_until(lambda: value(server, "talkies_active_requests", model=TTS) == 0, 5, "it is no longer counted")


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
    wait_until(lambda: given in server.log(), 5, "the request is logged")
    line = next(json.loads(line) for line in server.log().splitlines() if given in line)
    assert (line["event"], line["path"], line["status"]) == ("request", "/v1/models", 200)


@pytest.mark.parametrize("logged", [False, True])
def test_content_is_logged_only_if_asked_for(start_server: Callable[..., Server], jfk: Path, logged: bool) -> None:
    server = start_server(LOG_LEVEL="debug", **({"LOG_CONTENT": "true"} if logged else {}))
    said = "The secret word is rhubarb."
    assert transcribe(server, jfk) == speak(server, said) == 200
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
