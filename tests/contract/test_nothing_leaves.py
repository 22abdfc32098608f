"""What people say to their own machine stays there: no library writes home, none calls its maker."""

from __future__ import annotations

import ipaddress
import os
import re
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from harness.server import Server, wait_until

_QUIETING = ("ORT_DISABLE_TELEMETRY", "HF_HUB_DISABLE_TELEMETRY", "DO_NOT_TRACK")
_TO = re.compile(r'port=htons\((\d+)\).*?(?:inet_addr\("([^"]+)"\)|inet_pton\(AF_INET6, "([^"]+)")')
_DNS = "53"
_CALLS = "connect,sendto,sendmsg,sendmmsg"


@contextmanager
def traced(server: Server, into: Path) -> Iterator[None]:
    """Write every call of the server's processes, and of those that they start, that could reach out."""
    strace = shutil.which("strace")
    if not strace:
        pytest.skip("strace is not installed")
    pids = [argument for pid in (server.process.pid, *server.processes()) for argument in ("-p", str(pid))]
    tracer = subprocess.Popen(
        [strace, "-f", "-qq", "-e", f"trace={_CALLS}", "-o", str(into), *pids], stderr=subprocess.PIPE, text=True
    )
    assert tracer.stderr
    try:
        time.sleep(1)
        if tracer.poll() is not None:
            pytest.skip(f"strace may not look at processes here: {tracer.stderr.read().strip()}")
        yield
    finally:
        tracer.send_signal(signal.SIGINT)
        try:
            tracer.wait(timeout=30)
        finally:
            tracer.kill()  # what is traced goes on without it
            tracer.stderr.close()


def addresses(trace: str) -> set[str]:
    """Those that are not this machine's own, and that of whom names are looked up from, which may be."""
    found = [(port, four or six) for port, four, six in _TO.findall(trace)]
    return {address for port, address in found if port == _DNS or not _is_here(ipaddress.ip_address(address))}


def _is_here(address: ipaddress.IPv4Address | ipaddress.IPv6Address) -> bool:
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return (mapped or address).is_loopback or (mapped or address).is_unspecified


def test_nothing_leaves_the_machine(
    start_server: Callable[..., Server], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, jfk: Path
) -> None:
    """onnxruntime, for one, would write who it is into the home folder, and tell its maker."""
    home, trace = tmp_path / "home", tmp_path / "trace"
    home.mkdir()
    monkeypatch.setenv("HOME", str(home))
    for name in _QUIETING:
        monkeypatch.delenv(name, raising=False)
    server = start_server(MAX_LOADED_MODELS="2")
    with traced(server, trace):
        for pid in server.pids("audio_chunks"):
            os.kill(pid, signal.SIGKILL)  # the ones that come instead are traced from their first step on
        wait_until(lambda: server.transcribe(jfk).status_code == 200, 120, "speech is heard again")
        assert server.speak().status_code == 200
        time.sleep(5)  # it takes its time
    calls = trace.read_text(errors="replace")
    assert "sendmsg(" in calls, "the trace is empty"
    assert addresses(calls) == set()
    assert list(home.rglob("*")) == []


def test_a_trace_tells_what_leaves() -> None:
    calls = (
        'connect(3, {sa_family=AF_INET, sin_port=htons(443), sin_addr=inet_addr("192.0.2.7")}, 16) = 0\n'
        'connect(3, {sa_family=AF_INET, sin_port=htons(80), sin_addr=inet_addr("127.0.0.1")}, 16) = 0\n'
        'connect(3, {sa_family=AF_INET, sin_port=htons(53), sin_addr=inet_addr("127.0.0.53")}, 16) = 0\n'
        'sendto(3, "x", 1, 0, {sa_family=AF_INET6, sin6_port=htons(443), sin6_flowinfo=htonl(0), '
        'inet_pton(AF_INET6, "2001:db8::1", &sin6_addr), sin6_scope_id=0}, 28) = 1\n'
        "connect(3, {sa_family=AF_INET6, sin6_port=htons(80), sin6_flowinfo=htonl(0), "
        'inet_pton(AF_INET6, "::ffff:127.0.0.1", &sin6_addr), sin6_scope_id=0}, 28) = 0\n'
    )
    assert addresses(calls) == {"192.0.2.7", "127.0.0.53", "2001:db8::1"}
