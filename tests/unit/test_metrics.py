"""What is counted about requests, and the headers that say how long they took."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families
from talkies import __version__, metrics

from harness.facade import Facade, facade

SPEECH = {"model": "kokoro-82m", "input": "Hello."}


async def samples(api: Facade) -> dict[tuple[str, frozenset[tuple[str, str]]], float]:
    response = await api.client.get("/metrics")
    assert response.headers["content-type"].startswith("text/plain; version=")
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(response.text)
        for sample in family.samples
    }


def key(name: str, **labels: str) -> tuple[str, frozenset[tuple[str, str]]]:
    return name, frozenset(labels.items())


async def test_requests_by_route_and_model(tmp_path: Path) -> None:
    async with facade(tmp_path) as api:
        answer = await api.client.post("/v1/audio/speech", json=SPEECH)
        await api.client.get("/v1/models/kokoro-82m")
        await api.client.get("/v1/models/whisper-base")
        await api.client.post("/v1/audio/speech", json={**SPEECH, "model": "no-such-model"})
        counted = await samples(api)
    assert counted[key("talkies_build_info", version=__version__)] == 1
    total = "talkies_requests_total"
    speech = {"route": "/v1/audio/speech", "method": "POST"}
    assert counted[key(total, **speech, status="200", model="kokoro-82m")] == 1
    assert counted[key(total, **speech, status="404", model="")] == 1
    assert counted[key(total, route="/v1/models/{model_id:path}", method="GET", status="200", model="")] == 2
    assert counted[key("talkies_request_seconds_count", route="/v1/audio/speech", model="kokoro-82m")] == 1
    assert counted[key("talkies_received_bytes_total", route="/v1/audio/speech")] > 2 * 20
    assert counted[key("talkies_sent_bytes_total", route="/v1/audio/speech")] > len(answer.content)
    assert counted[key("talkies_requests_in_flight")] == 1  # the one that asks
    assert counted[key("process_open_fds")] > 0


async def test_a_scanner_makes_no_series(tmp_path: Path) -> None:
    async with facade(tmp_path, auth_token="secret") as api:
        for number in range(20):
            await api.client.request(f"GUESS{number}", f"/guess/{number}", headers={"authorization": "Bearer secret"})
            await api.client.get(f"/guess/{number}")
        response = await api.client.get("/metrics", headers={"authorization": "Bearer secret"})
    assert "guess" not in response.text.lower()
    assert response.text.count("talkies_requests_total{") == 2  # 404 and 401


async def test_audio_seconds_by_status(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with facade(tmp_path) as api:
        whole = api.transcriber.transcribe

        async def transcribe(*args: Any, **options: Any) -> Any:
            # In a task of its own, as where the client is watched.
            metrics.work().heard = 2.5
            return await whole(*args, **options)

        monkeypatch.setattr(api.transcriber, "transcribe", transcribe)
        for failure in (None, RuntimeError("boom")):
            api.transcriber.failure = failure
            files = {"file": ("a.wav", b"audio")}
            await api.client.post("/v1/audio/transcriptions", data={"model": "whisper-base"}, files=files)
        counted = await samples(api)
    name = "talkies_transcribed_audio_seconds_total"
    assert counted[key(name, model="whisper-base", status="200")] == 2.5
    assert counted[key(name, model="whisper-base", status="500")] == 2.5


async def test_timing_headers(tmp_path: Path) -> None:
    async with facade(tmp_path) as api:
        response = await api.client.get("/v1/models")
        assert int(response.headers["openai-processing-ms"]) >= 0
        assert "server-timing" not in response.headers

        speak = api.synthesizer.speak

        async def slow(*args: Any, **options: Any) -> Any:
            work = metrics.work()
            work.model, work.queue, work.load, work.engine = "kokoro-82m", 0.0015, 2, 0.25
            await asyncio.sleep(0.05)
            async for pcm in speak(*args, **options):
                yield pcm

        api.synthesizer.speak = slow  # type: ignore[method-assign]
        response = await api.client.post("/v1/audio/speech", json=SPEECH)
        assert response.headers["server-timing"] == "queue;dur=1.5, load;dur=2000.0, engine;dur=250.0"
        assert int(response.headers["openai-processing-ms"]) >= 50
        response = await api.client.post("/v1/audio/speech", json={**SPEECH, "stream_format": "audio"})
        assert "server-timing" not in response.headers


async def test_openmetrics_is_offered(tmp_path: Path) -> None:
    async with facade(tmp_path) as api:
        response = await api.client.get("/metrics", headers={"accept": "application/openmetrics-text; version=1.0.0"})
    assert response.headers["content-type"].startswith("application/openmetrics-text")
    assert response.text.endswith("# EOF\n")


async def test_facades_count_for_themselves(tmp_path: Path) -> None:
    async with facade(tmp_path / "a") as one, facade(tmp_path / "b") as other:
        await one.client.get("/healthz")
        assert not [name for name, _ in await samples(other) if name == "talkies_requests_total"]


def test_outside_of_requests_nothing_is_kept() -> None:
    metrics.work().queue += 1
    assert metrics.work().queue == 0
