"""A facade before a tritonserver that it did not start: here, that of another talkies on the same data directory."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.conftest import Server, running_server
from tests.contract.test_lifecycle import ASR, TTS, loaded, speak, transcribe

KEY = "a-key-that-both-know"


@pytest.fixture
def owner(start_server: Callable[..., Server]) -> Server:
    return start_server(TRITON_ADMIN_KEY=KEY, MAX_LOADED_MODELS="2")


@pytest.fixture
def facade(owner: Server) -> Iterator[Server]:
    with running_server(owner.data, TRITON_URL=owner.grpc, TRITON_ADMIN_KEY=KEY, MAX_LOADED_MODELS="2") as facade:
        yield facade


def test_serves_without_a_tritonserver_of_its_own(owner: Server, facade: Server, jfk: Path) -> None:
    assert facade.processes() == []
    assert transcribe(facade, jfk) == 200
    assert speak(facade) == 200
    # What one facade loads the other sees, and may unload: the truth is in Triton.
    assert set(loaded(owner)) == set(loaded(facade)) == {ASR, TTS}
    with owner.http() as http:
        assert http.delete(f"/api/ps/{TTS}").status_code == 200
    assert set(loaded(facade)) == {ASR}
    assert speak(facade) == 200


def test_without_the_key_the_answer_says_so(owner: Server) -> None:
    with running_server(owner.data, TRITON_URL=owner.grpc) as facade, facade.http() as http:
        response = http.post("/v1/audio/speech", json={"model": TTS, "input": "Hello."})
    assert response.status_code == 503
    assert "TALKIES_TRITON_ADMIN_KEY" in response.json()["detail"]
