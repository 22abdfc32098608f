"""What the product's description promises and no other test of the running server shows."""

from __future__ import annotations

import io
import json
import socket
import wave
from collections.abc import Callable
from pathlib import Path

import httpx
import numpy as np
import pytest
from talkies.settings import PROJECT

from harness import audio
from harness.server import ASR, TTS, Server, default_home
from harness.words import normalize

SENTENCE = "ask not what your country can do for you"


@pytest.mark.parametrize("route", ["transcriptions", "translations"])
def test_exactly_one_of_file_and_file_path(server: Server, jfk: Path, route: str) -> None:
    with server.http() as http:
        neither = http.post(f"/v1/audio/{route}", data={"model": ASR})
        files = {"file": ("a.flac", jfk.read_bytes())}
        both = http.post(f"/v1/audio/{route}", data={"model": ASR, "file_path": "a.flac"}, files=files)
    for answer in (neither, both):
        assert (answer.status_code, answer.json()["error"]["param"]) == (400, "file")
        assert "exactly one" in answer.json()["detail"]


def test_names_may_come_encoded(server: Server, jfk: Path) -> None:
    assert server.transcribe(jfk).status_code == 200
    with server.http() as http:
        assert http.get("/v1/models/whisper%2Dbase").json()["id"] == ASR
        for method, path in (("GET", "/v1/models/"), ("DELETE", "/api/ps/")):
            answer = http.request(method, f"{path}team%2Fmodel")
            assert (answer.status_code, answer.json()["error"]["code"]) == (404, "model_not_found")
            assert "'team/model'" in answer.json()["detail"]
        assert http.delete("/api/ps/whisper%2Dbase").json() == {"unloaded": [ASR]}


def test_a_second_slug_for_the_same_weights(start_server: Callable[..., Server], tmp_path: Path, jfk: Path) -> None:
    """A registry of one's own: one slug of these weights transcribes and another translates; only that is served."""
    ours = json.loads((PROJECT / "models.json").read_text())["models"]
    english = {**ours[ASR], "default_task": "translate", "default_target_lang": "en"}
    registry = tmp_path / "registry.json"
    registry.write_text(json.dumps({"models": {ASR: ours[ASR], "whisper.to-english": english, TTS: ours[TTS]}}))
    models = tmp_path / "data" / "models"
    models.mkdir(parents=True)
    for slug, folder in {"whisper.to-english": ASR, TTS: TTS}.items():
        (models / slug).symlink_to((default_home() / "models" / folder).resolve())
    server = start_server(MODELS_FILE=str(registry), ENABLED_MODELS=f"whisper.to-english,{TTS}")
    with server.http() as http:
        assert [model["id"] for model in http.get("/v1/models").json()["data"]] == ["whisper.to-english", TTS]
        files = {"file": ("a.flac", jfk.read_bytes())}
        form = {"model": "whisper.to-english", "response_format": "verbose_json"}
        answer = http.post("/v1/audio/transcriptions", data=form, files=files).json()
        assert answer["task"] == "translate"
        assert SENTENCE in normalize(answer["text"])
        assert http.post("/v1/audio/transcriptions", data={"model": ASR}, files=files).status_code == 404


def test_the_pool_is_shared_both_ways(pooled: Callable[..., Server], jfk: Path) -> None:
    """By default a single model is resident; speech evicts the transcriber, and transcription the speaker."""
    server = pooled(MAX_LOADED_MODELS="1")
    assert server.transcribe(jfk).status_code == 200
    assert set(server.loaded()) == {ASR}
    assert server.speak().status_code == 200
    assert set(server.loaded()) == {TTS}
    assert server.transcribe(jfk).status_code == 200
    assert set(server.loaded()) == {ASR}


def test_the_upload_cap_is_for_uploads(start_server: Callable[..., Server], jfk: Path) -> None:
    """413 for a form's file and a PUT; a file that lies in the staging area may be larger."""
    server = start_server(MAX_UPLOAD_BYTES="20000")
    (server.data / "files" / "large.flac").write_bytes(jfk.read_bytes())
    with server.http() as http:
        files = {"file": ("a.flac", jfk.read_bytes())}
        sent = http.post("/v1/audio/transcriptions", data={"model": ASR}, files=files)
        put = http.put("/v1/files/a.flac", content=jfk.read_bytes())
        staged = http.post("/v1/audio/transcriptions", data={"model": ASR, "file_path": "large.flac"})
    assert [answer.status_code for answer in (sent, put, staged)] == [413, 413, 200]
    assert sent.json()["error"]["code"] == put.json()["error"]["code"] == "file_too_large"
    assert SENTENCE in normalize(staged.json()["text"])
    assert [path.name for path in (server.data / "files").glob("*.flac")] == ["large.flac"]


def test_a_long_file_is_one_timeline(server: Server, jfk: Path) -> None:
    """Four times the same speech with a pause of two seconds: each time is heard where it is spoken."""
    speech = audio.decode(jfk)
    step = len(speech) / 16_000 + 2
    long = audio.encode(np.tile(np.pad(speech, (0, 32_000)), 4), 16_000, "flac", "flac")
    with server.http() as http:
        form = {"model": ASR, "language": "en", "response_format": "verbose_json"}
        answer = http.post("/v1/audio/transcriptions", data=form, files={"file": ("long.flac", long)}).json()
        srt = http.post(
            "/v1/audio/transcriptions",
            data={**form, "response_format": "srt"},
            files={"file": ("long.flac", long)},
        ).text
    assert answer["duration"] == pytest.approx(4 * step, abs=0.1)
    segments, words = answer["segments"], answer["words"]
    assert [segment["id"] for segment in segments] == list(range(len(segments)))
    for timed in (segments, words):
        starts = [entry["start"] for entry in timed]
        assert starts == sorted(starts)
        assert all(0 <= entry["start"] <= entry["end"] <= answer["duration"] for entry in timed)
    fellows = [word["start"] for word in words if normalize(word["word"]) == "fellow"]
    assert [round(start / step) for start in fellows] == [0, 1, 2, 3]
    last = srt.strip().split("\n\n")[-1].splitlines()[1].partition(" --> ")[2]
    hours, minutes, seconds = last.replace(",", ".").split(":")
    assert int(hours) * 3600 + int(minutes) * 60 + float(seconds) <= answer["duration"]


def test_silence_and_noise_are_no_words(server: Server) -> None:
    random = np.random.default_rng(1)
    sounds = {
        "silence": np.zeros(16_000 * 40),
        "white noise": random.normal(0, 800, 16_000 * 5),
        "hum": 3000 * np.sin(2 * np.pi * 50 * np.arange(16_000 * 5) / 16_000),
    }
    with server.http() as http:
        for name, samples in sounds.items():
            files = {"file": ("a.wav", audio.encode(samples.astype(np.int16), 16_000, "wav", "pcm_s16le"))}
            form = {"model": ASR, "response_format": "verbose_json"}
            answer = http.post("/v1/audio/transcriptions", data=form, files=files).json()
            assert (answer["text"], answer["segments"], answer["words"]) == ("", [], []), name
            assert answer["duration"] == pytest.approx(len(samples) / 16_000, abs=0.01)


def test_pcm_is_what_wav_holds(server: Server) -> None:
    body = {"model": TTS, "input": "Hello there.", "voice": "af_heart"}
    with server.http() as http:
        pcm = http.post("/v1/audio/speech", json={**body, "response_format": "pcm"}).content
        wav = http.post("/v1/audio/speech", json={**body, "response_format": "wav"}).content
    with wave.open(io.BytesIO(wav)) as file:
        assert (file.getnchannels(), file.getsampwidth(), file.getframerate()) == (1, 2, 24_000)
        assert file.getnframes() == len(pcm) // 2


def test_ignored_fields_are_taken(server: Server, jfk: Path) -> None:
    """Fields that clients send and no engine here uses."""
    with server.http() as http:
        body = {"model": TTS, "input": "Hello.", "instructions": "Whisper.", "user": "someone", "extra": {"a": 1}}
        assert http.post("/v1/audio/speech", json=body).status_code == 200
        form = {"model": ASR, "user": "someone", "timestamp_granularities[]": ["word", "segment"], "vad": "true"}
        files = {"file": ("a.flac", jfk.read_bytes())}
        answer = http.post("/v1/audio/transcriptions", data={**form, "response_format": "verbose_json"}, files=files)
    assert answer.json()["segments"] and answer.json()["words"]


def test_a_server_on_ipv6(start_server: Callable[..., Server], jfk: Path) -> None:
    try:
        socket.create_server(("::1", 0), family=socket.AF_INET6).close()
    except OSError as error:
        pytest.skip(f"no IPv6 here: {error}")
    server = start_server(HOST="::1", GRPC_HOST="::1")
    assert SENTENCE in normalize(server.transcribe(jfk).json()["text"])
    assert httpx.get(f"http://[::1]:{server.metrics_port}/metrics").is_success  # tritonserver's own
