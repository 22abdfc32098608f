"""Every model whose weights this machine has loads in the real tritonserver, and its process ends with it."""

from __future__ import annotations

import pytest

from harness import audio
from harness.processes import is_alive
from harness.server import Server


@pytest.mark.parametrize(("model", "name"), [("whisper-base", "whisper-base.engine"), ("kokoro-82m", "kokoro-82m")])
def test_loads_and_unloads(server: Server, model: str, name: str) -> None:
    """`name` is that of the Triton model that has the process."""
    with server.http() as http:
        if model == "kokoro-82m":
            answer = http.post("/v1/audio/speech", json={"model": model, "input": "Hello."})
        else:
            files = {"file": ("a.wav", audio.encode(audio.tone(1), 16_000, "wav", "pcm_s16le"))}
            answer = http.post("/v1/audio/transcriptions", files=files, data={"model": model})
        assert answer.status_code == 200, answer.text
        assert model in [entry["model"] for entry in http.get("/api/ps").json()["models"]]
        pids = server.pids(name)
        assert len(pids) == 1
        assert http.delete(f"/api/ps/{model}").status_code == 200
    assert not [pid for pid in pids if is_alive(pid)]
