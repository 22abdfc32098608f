"""Fixtures for the tests that run the real server: one for all, others by their settings, those of one test."""

from __future__ import annotations

import contextlib
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from talkies.settings import PROJECT
from xdist.scheduler import LoadScopeScheduling

from harness.server import JFK, Pool, Server, default_home, running
from tests.clients import environment

SHARED_AUDIO = PROJECT.parent / "shared" / "audio"
_OTHERS = 3
"""Servers of other settings that run at a time; each may hold a gigabyte."""


def _contract(*names: str) -> tuple[str, ...]:
    return tuple(f"contract/test_{name}" for name in names)


_LANES = {
    "one core": (
        *("unit/", "repository/"),
        *_contract("nemo_engines", "qwen3_tts", "whisper_large", "adding", "auth", "grpc_admin"),
        *_contract("metrics", "openapi", "outside", "speech_stream"),
    ),
    "life": _contract("lifecycle", "leaks", "load", "faults", "downloads", "mcp", "files", "bulk"),
}
"""What `-n 3` runs beside each other; what is in neither is in the third, "words". Each has a server of its own."""


class Lanes(LoadScopeScheduling):
    """Gives each worker a lane."""

    def _split_scope(self, nodeid: str) -> str:
        place = nodeid.removeprefix("tests/")
        return next((lane for lane, places in _LANES.items() if place.startswith(places)), "words")


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Lanes:
    return Lanes(config, log)


def pytest_itemcollected(item: pytest.Item) -> None:
    if "shared_audio" in getattr(item, "fixturenames", ()):
        item.add_marker(pytest.mark.quality)


@pytest.fixture(scope="session")
def prepared() -> None:
    """The environments and weights of the default models are there."""
    for command in (("env", "build"), ("pull",)):
        subprocess.run([sys.executable, "-m", "talkies", *command], check=True)


@pytest.fixture(scope="session")
def pooled(prepared: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[..., Server]]:
    """A server of these settings, shared with other tests: `pooled(MAX_LOADED_MODELS="1")`."""
    pool = Pool(tmp_path_factory.mktemp("pool"), _OTHERS)
    yield pool.get
    pool.close()


@pytest.fixture(scope="session")
def server(prepared: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """The shared server, with room for an ASR and a TTS model at the same time."""
    with running(tmp_path_factory.mktemp("server"), MAX_LOADED_MODELS="2") as server:
        yield server


@pytest.fixture
def start_server(prepared: None, tmp_path: Path) -> Iterator[Callable[..., Server]]:
    """A server of the test's own, for what no other test may see: `start_server(AUTH_TOKEN="secret")`."""
    with contextlib.ExitStack() as stack:
        yield lambda **settings: stack.enter_context(running(tmp_path / "data", **settings))


@pytest.fixture(scope="session")
def build() -> Callable[[str], None]:
    """Build an engine's environment unless it is there: `build("nemo")`."""

    def build(family: str) -> None:
        subprocess.run([sys.executable, "-m", "talkies", "env", "build", family], check=True)

    return build


@pytest.fixture(scope="session")
def client_python() -> Callable[..., Path]:
    """The Python of a client from PyPI in its own environment: `client_python("litellm")`; see `environment.python`."""
    return lambda client, *versions: environment.python(default_home() / "envs", client, *versions)


@pytest.fixture(scope="session")
def shared_audio() -> Path:
    """The larger audio set beside the project; tests on it skip where it is absent, as in a fresh clone."""
    if not SHARED_AUDIO.is_dir():
        pytest.skip("the larger audio set is not beside this checkout")
    return SHARED_AUDIO


@pytest.fixture(scope="session")
def jfk() -> Path:
    """11 s of John F. Kennedy, 44.1 kHz stereo FLAC."""
    return JFK
