"""A facade before a tritonserver that it did not start: that of another talkies, or one by itself: `talkies triton`."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest

from harness.forwarder import Forwarder
from harness.server import ASR, TTS, Server, default_home, free_ports, running, wait_until
from harness.speech import COUNTING

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


@contextlib.contextmanager
def tritonserver(data: Path, log: Path, port: int, *options: str) -> Iterator[subprocess.Popen[bytes]]:
    """A `talkies triton` on that port, until the end of the context."""
    variables = {**KEYS, "DATA_DIR": data, "ENVS_DIR": default_home() / "envs", "GRPC_PORT": port}
    variables["METRICS_PORT"] = free_ports(1)[0]
    if not (data / "models").exists():
        (data / "models").symlink_to(default_home() / "models")
    environment = {f"TALKIES_{name}": str(value) for name, value in variables.items()}
    with log.open("ab") as stderr:
        process = subprocess.Popen(
            [sys.executable, "-m", "talkies", "triton", *options], env={**os.environ, **environment}, stderr=stderr
        )
    try:
        yield process
    finally:
        process.terminate()
        process.wait(60)


def settings(port: int) -> dict[str, str]:
    return {**KEYS, "TRITON_URL": f"127.0.0.1:{port}", "MAX_LOADED_MODELS": "2"}


@pytest.fixture
def data(prepared: None, tmp_path: Path) -> Path:
    folder = tmp_path / "data"
    folder.mkdir()
    return folder


def test_a_tritonserver_by_itself_and_its_facade(data: Path, tmp_path: Path, jfk: Path) -> None:
    [port] = free_ports(1)
    with tritonserver(data, tmp_path / "log", port) as process, running(data, **settings(port)) as facade:
        assert facade.transcribe(jfk).status_code == facade.speak().status_code == 200
        process.kill()
        process.wait()
        with facade.http() as http:
            wait_until(lambda: http.get("/readyz").status_code == 503, 60, "the facade sees it")
            with tritonserver(data, tmp_path / "log", port, "--rendered"):
                wait_until(lambda: http.get("/readyz").status_code == 200, 120, "the facade sees the next one")
                assert facade.speak().status_code == 200
    assert (tmp_path / "log").read_text().count("Started GRPCInferenceService") == 2


def test_a_tritonserver_by_itself_wants_keys(data: Path, tmp_path: Path) -> None:
    environment = {"TALKIES_DATA_DIR": str(data), "TALKIES_TRITON_ADMIN_KEY": KEY}
    done = subprocess.run(
        [sys.executable, "-m", "talkies", "triton", "--rendered"],
        env={**os.environ, **environment}, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith("talkies: Set TALKIES_PATH_KEY, and the same for `talkies serve`")


def test_requests_survive_a_tritonserver_whose_address_vanishes(owner: Server) -> None:
    """As when a container is killed: nobody is there who would close a connection, so that it stays open for ever."""
    with Forwarder(owner.grpc) as way, running(owner.data, **settings(way.port), HANG_TIMEOUT="20") as facade:
        assert facade.speak().status_code == 200
        answers: list[httpx.Response] = []
        asked = [threading.Thread(target=lambda: answers.append(facade.speak(COUNTING))) for _ in range(2)]
        asked[0].start()
        wait_until(lambda: facade.active() == 1, 60, "one is at work")
        way.swallow()
        asked[1].start()  # and one asks meanwhile
        with facade.http() as http:
            wait_until(lambda: http.get("/readyz").status_code == 503, 60, "the facade sees it")
        way.heal()  # for new connections; those from before stay silent
        for thread in asked:
            thread.join(120)
        assert [answer.status_code for answer in answers] == [200, 200]
