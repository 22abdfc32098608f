"""Every model whose weights this machine has loads in the real tritonserver, and its process ends with it."""

from __future__ import annotations

import pytest

from tests import audio
from tests.conftest import Server


@pytest.mark.parametrize("model", ["whisper-base", "kokoro-82m"])
def test_loads_and_unloads(server: Server, model: str) -> None:
    with server.http() as http:
        if model == "kokoro-82m":
            answer = http.post("/v1/audio/speech", json={"model": model, "input": "Hello."})
        else:
            files = {"file": ("a.wav", audio.encode(audio.tone(1), 16_000, "wav", "pcm_s16le"))}
            answer = http.post("/v1/audio/transcriptions", files=files, data={"model": model})
        assert answer.status_code == 200, answer.text
        assert model in [entry["model"] for entry in http.get("/api/ps").json()["models"]]
        processes = len(server.processes())
        assert http.delete(f"/api/ps/{model}").status_code == 200
    assert len(server.processes()) == processes - 1
