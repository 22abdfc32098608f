"""What the environment says of talkies is no business of a test."""

from __future__ import annotations

from pathlib import Path

import pytest


@pytest.fixture(autouse=True)
def no_settings(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in (
        "TALKIES_URL",
        "TALKIES_AUTH_TOKEN",
        "TALKIES_ENABLED_MODELS",
        "TALKIES_PRELOAD",
        "TALKIES_TRITON_URL",
    ):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("TALKIES_DATA_DIR", str(tmp_path / "data"))
    monkeypatch.setenv("NO_COLOR", "1")
