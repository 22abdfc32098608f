"""What an operator can set, and what is none of it."""

from __future__ import annotations

import pytest
from talkies.errors import StartupError
from talkies.settings import Settings


@pytest.mark.parametrize("name", ["port", "grpc_port", "metrics_port"])
@pytest.mark.parametrize("scheme", ["tcp", "udp", "sctp"])
def test_the_link_to_a_service_of_our_name_is_no_port(monkeypatch: pytest.MonkeyPatch, name: str, scheme: str) -> None:
    monkeypatch.setenv(f"TALKIES_{name.upper()}", f"{scheme}://10.96.0.7:8000")
    assert getattr(Settings.load(), name) == Settings.model_fields[name].default


@pytest.mark.parametrize("value", ["tcp", "http://10.96.0.7:8000", "0", "65536"])
def test_anything_else_is_refused(monkeypatch: pytest.MonkeyPatch, value: str) -> None:
    monkeypatch.setenv("TALKIES_PORT", value)
    with pytest.raises(StartupError, match="TALKIES_PORT"):
        Settings.load()


def test_each_port_has_its_address() -> None:
    assert Settings(host="0.0.0.0").metrics_address == "0.0.0.0"
    assert Settings(host="0.0.0.0", metrics_host="::1").metrics_address == "::1"
