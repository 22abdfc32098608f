"""A facade before a tritonserver that it did not start: here, that of another talkies on the same data directory."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from harness.server import ASR, TTS, Server, running

KEY = "a-key-that-both-know"
KEYS = {"TRITON_ADMIN_KEY": KEY, "GRPC_KEY": "another", "PATH_KEY": "a third"}


@pytest.fixture
def owner(start_server: Callable[..., Server]) -> Server:
    return start_server(**KEYS, MAX_LOADED_MODELS="2")


@pytest.fixture
def facade(owner: Server) -> Iterator[Server]:
    with running(owner.data, TRITON_URL=owner.grpc, **KEYS, MAX_LOADED_MODELS="2") as facade:
        yield facade


def test_serves_without_a_tritonserver_of_its_own(owner: Server, facade: Server, jfk: Path) -> None:
    assert facade.processes() == []
    assert facade.transcribe(jfk).status_code == 200
    assert facade.speak().status_code == 200
    # What one facade loads the other sees, and may unload: the truth is in Triton.
    assert set(owner.loaded()) == set(facade.loaded()) == {ASR, TTS}
    with owner.http() as http:
        assert http.delete(f"/api/ps/{TTS}").status_code == 200
    assert set(facade.loaded()) == {ASR}
    assert facade.speak().status_code == 200


def test_without_the_key_the_answer_says_so(owner: Server) -> None:
    with running(owner.data, TRITON_URL=owner.grpc) as facade:
        response = facade.speak()
    assert response.status_code == 503
    assert "TALKIES_TRITON_ADMIN_KEY" in response.json()["detail"]
