"""The command line in a test: run it, and let it reach something else than the network."""

from __future__ import annotations

from pathlib import Path

import httpx
import pytest
from talkies.cli import bulk, files, lists, transcribe
from talkies.cli.client import Client
from talkies.cli.main import app
from typer.testing import CliRunner, Result


def run(*args: str | Path, input: bytes | str | None = None, env: dict[str, str] | None = None) -> Result:
    return CliRunner().invoke(app, [str(arg) for arg in args], input=input, env=env)


def use(monkeypatch: pytest.MonkeyPatch, transport: httpx.AsyncBaseTransport) -> None:
    """Let the commands reach `transport` in place of the network."""

    def connect(url: str, token: str, timeout: float = 3600) -> Client:
        return Client(url, token, timeout=timeout, transport=transport)

    monkeypatch.setattr(lists, "connect", connect)
    monkeypatch.setattr(transcribe, "connect", connect)
    monkeypatch.setattr(bulk, "connect", connect)
    monkeypatch.setattr(files, "connect", connect)
