"""The flags of tritonserver, which `talkies serve` and `talkies triton` share."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

import pytest
from talkies.engines import command
from talkies.engines.triton import Keys
from talkies.errors import StartupError
from talkies.settings import Settings

KEYS = Keys("admin", "", "path")


def flags(folder: Path, keys: Keys = KEYS, **values: Any) -> list[str]:
    settings = Settings.load(data_dir=folder, **{"tritonserver": sys.executable, "device": "cpu", **values})
    program, *rest = command.command(settings, keys, folder / "backends", drain=5).arguments
    assert program == str(settings.tritonserver)
    return rest


def test_each_port_listens_where_it_is_told(tmp_path: Path) -> None:
    found = flags(tmp_path, host="::1", grpc_host="::", metrics_host="0.0.0.0")
    assert {"--grpc-address=[::]", "--metrics-address=0.0.0.0"} <= set(found)
    assert "--metrics-address=ipv6:::1" in flags(tmp_path, host="::1")


def test_what_only_the_facade_may_ask_for_has_its_key(tmp_path: Path) -> None:
    [closed] = [flag for flag in flags(tmp_path) if "restricted" in flag]
    assert closed.endswith("model-repository,shared-memory,trace,logging:admin-key=admin")
    [_, inference] = [flag for flag in flags(tmp_path, Keys("admin", "guest", "path")) if "restricted" in flag]
    assert inference.endswith("=inference:inference-key=guest")


def test_tritonserver_itself_takes_nothing_of_a_gpu(tmp_path: Path) -> None:
    settings = Settings.load(data_dir=tmp_path, device="cuda", tritonserver=sys.executable)
    made = command.command(settings, KEYS, tmp_path, drain=5)
    assert "--pinned-memory-pool-byte-size=0" in made.arguments
    assert made.environment["CUDA_VISIBLE_DEVICES"] == ""


def test_traces_go_where_the_facade_sends_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert not [flag for flag in flags(tmp_path) if "trace-config" in flag]
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://box:4318")
    assert "--trace-config=opentelemetry,url=http://box:4318/v1/traces" in flags(tmp_path)


def test_the_program_of_the_path_is_the_last_resort(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = Settings.load(data_dir=tmp_path, device="cpu")
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(StartupError, match="`talkies env build tritonserver`, or let TALKIES_TRITONSERVER name one"):
        command.command(settings, KEYS, tmp_path, drain=5)
    (tmp_path / "tritonserver").touch(mode=0o755)
    assert command.command(settings, KEYS, tmp_path, drain=5).arguments[0] == str(tmp_path / "tritonserver")


def test_a_program_that_is_none_is_said(tmp_path: Path) -> None:
    with pytest.raises(StartupError, match=r"TALKIES_TRITONSERVER: .*/absent is no program\."):
        flags(tmp_path, tritonserver=tmp_path / "absent")


def test_by_itself_it_becomes_tritonserver(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    became: list[tuple[Any, ...]] = []
    monkeypatch.setattr(os, "execve", lambda *call: became.append(call))
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    settings = Settings.load(
        data_dir=tmp_path, tritonserver=sys.executable, triton_admin_key="a", path_key="p", device="cpu"
    )
    command.run(settings)
    [(program, arguments, environment)] = became
    assert program == arguments[0] == str(settings.tritonserver) and environment["TALKIES_PATH_KEY"] == "p"
    assert not [argument for argument in arguments if "shm-region-prefix" in argument]


@pytest.mark.parametrize(
    ("keys", "wanted"),
    [
        ({}, "Set TALKIES_TRITON_ADMIN_KEY and TALKIES_PATH_KEY,"),
        ({"path_key": "p"}, "Set TALKIES_TRITON_ADMIN_KEY,"),
    ],
)
def test_by_itself_it_wants_keys(tmp_path: Path, keys: dict[str, str], wanted: str) -> None:
    with pytest.raises(StartupError, match=wanted):
        command.run(Settings.load(data_dir=tmp_path, tritonserver=sys.executable, **keys))
