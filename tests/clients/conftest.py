"""Fixtures for other people's programs: a server on its defaults, and what was run, told at the end."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from harness import audio
from harness.server import ASR, TTS, Server

_RAN = pytest.StashKey[list[str]]()


@pytest.fixture(scope="session")
def defaults(pooled: Callable[..., Server]) -> Server:
    """A server on its defaults, as `talkies serve` starts it."""
    return pooled()


@pytest.fixture
def assistant(pooled: Callable[..., Server]) -> Server:
    """A server for a voice assistant, which waits for no model to be loaded."""
    return pooled(PRELOAD=f"{ASR},{TTS}", MAX_LOADED_MODELS="2", MODEL_TTL="0")


@pytest.fixture(scope="session")
def recording(jfk: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Kennedy as the WAV file that programs send: 16 kHz, mono."""
    made = tmp_path_factory.mktemp("recording") / "recording.wav"
    made.write_bytes(audio.encode(audio.decode(jfk), 16_000, "wav", "pcm_s16le"))
    return made


@pytest.fixture(scope="session")
def ran(request: pytest.FixtureRequest) -> Callable[[str], None]:
    """Takes a line for the end of the run: a client, its version, and what was called."""
    return request.config.stash.setdefault(_RAN, []).append


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    for line in config.stash.get(_RAN, []):
        terminalreporter.write_line(line)
