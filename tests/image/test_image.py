"""The real Dockerfile, built and run as docs/containers.md shows it."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import openai
import pytest

from harness.containers import Container, Engine
from harness.server import ASR, JFK, JFK_WORDS, TTS, wait_until
from harness.speech import COUNTING
from harness.words import normalize

_TMP = "/tmp"  # noqa: S108
LOCKED = (
    "--read-only", "--tmpfs", _TMP, "--cap-drop", "ALL", "--security-opt", "no-new-privileges", "--user", "12345:0",
)  # fmt: skip
_BY_PODMAN = ("/data", "/weights", "/etc", "/run")
"""Where it mounts, and what it writes itself."""
_MOST = 1_700_000_000
"""Bytes of the image for the CPU."""
_ZOMBIES = """
import pathlib
print(sum(line.split(") ")[1][0] == "Z" for line in
          (path.read_text() for path in pathlib.Path("/proc").glob("[0-9]*/stat"))))
"""
_KILL = """
import os, pathlib, signal
[pid] = [int(path.parent.name) for path in pathlib.Path("/proc").glob("[0-9]*/comm")
         if path.read_text() == "tritonserver\\n"]
os.kill(pid, signal.SIGKILL)
print(pid)
"""


def mounted(weights: Path) -> tuple[str, ...]:
    return "--volume", f"{weights}:/weights:ro", "--env", "TALKIES_WEIGHTS_DIR=/weights"


@pytest.fixture(scope="module")
def locked(engine: Engine, image: str, weights: Path) -> Iterator[Container]:
    """With a read-only root, no capabilities, and a user that the image does not know."""
    more = ("--shm-size", "1g", "--env", "TALKIES_MAX_LOADED_MODELS=2")
    with engine.running(image, *LOCKED, *more, *mounted(weights)) as container:
        yield container


@pytest.fixture
def plain(engine: Engine, image: str, weights: Path) -> Iterator[Container]:
    with engine.running(image, *mounted(weights)) as container:
        yield container


def test_its_size(engine: Engine, image: str, capsys: pytest.CaptureFixture[str]) -> None:
    size = engine.size(image)
    with capsys.disabled():
        print(f"\nthe image for the CPU has {size / 1e6:.0f} MB uncompressed")
    assert size <= _MOST


def test_it_starts_and_is_healthy(engine: Engine, locked: Container, capsys: pytest.CaptureFixture[str]) -> None:
    with capsys.disabled():
        print(f"\nready within {locked.started:.1f} s")
    engine("podman", "healthcheck", "run", locked.name)
    assert "Started GRPCInferenceService" in locked.logs()  # tritonserver's log is the container's


def test_the_official_client_transcribes_and_speaks(locked: Container) -> None:
    with openai.OpenAI(base_url=f"{locked.url}/v1", api_key="unused", max_retries=0, timeout=120) as client:
        with JFK.open("rb") as audio:
            heard = client.audio.transcriptions.create(model="whisper-1", file=audio).text
        assert JFK_WORDS in normalize(heard)
        spoken = client.audio.speech.create(model="tts-1", voice="af_heart", input="Ask not.", response_format="wav")
        assert spoken.content.startswith(b"RIFF") and len(spoken.content) > 20_000
    assert set(locked.loaded()) == {ASR, TTS}


def test_engines_have_the_threads_that_the_container_may_use(engine: Engine, image: str, weights: Path) -> None:
    options = ("--cpus", "1", *mounted(weights))
    code = "from talkies_kit.cores import cores; print(cores())"
    assert engine("podman", "run", "--rm", *options, image, "python3", "-c", code) == "1\n"


def test_what_dies_is_buried_and_nothing_is_written_elsewhere(engine: Engine, plain: Container) -> None:
    assert plain.speak().status_code == 200
    for _ in range(2):
        plain.run("python3", "-c", _KILL)
        wait_until(lambda: _status(plain) == 503, 60, "it is seen")
        wait_until(lambda: _status(plain) == 200, 60, "it is mended")
        assert plain.speak().status_code == 200
    wait_until(lambda: plain.run("python3", "-c", _ZOMBIES) == "0\n", 60, "all are buried")
    changed = {line.split()[1] for line in engine("podman", "diff", plain.name).splitlines()}
    assert not {path for path in changed if not path.startswith((_TMP, *_BY_PODMAN))}


def _status(container: Container) -> int:
    with container.http() as http:
        return http.get("/readyz").status_code


def test_stop_lets_a_running_request_finish(engine: Engine, plain: Container) -> None:
    assert plain.speak().status_code == 200
    answers: list[httpx.Response] = []
    running = threading.Thread(target=lambda: answers.append(plain.speak(COUNTING)))
    running.start()
    wait_until(lambda: plain.active() == 1, 60, "it is at work")
    started = time.monotonic()
    engine("podman", "stop", "--time", "60", plain.name)
    assert time.monotonic() - started < 60  # nothing had to be killed
    running.join(60)
    assert answers[0].status_code == 200
    assert engine("podman", "inspect", "--format", "{{.State.ExitCode}}", plain.name) == "0\n"
