"""Files that are dear to read, and reading that fails: whose fault it is, and that it ends."""

from __future__ import annotations

import errno
import io
import resource
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from talkies_kit import engine, wire
from talkies_kit.wire import FaultCode, InvalidInput

from harness.audio import encode, tone
from harness.engine_modules import load
from harness.hostile import bomb, tagged

ceiling, decoding, overseer, sources, watched, wav = (
    load("audio_chunks", name) for name in ("ceiling", "decoding", "overseer", "sources", "watched", "wav")
)
WANTS = [errno.ENOMEM, errno.ENOSPC, errno.EMFILE, errno.ENFILE, errno.EIO, errno.EAGAIN, errno.EDQUOT, errno.ENOBUFS]
MP3 = encode(tone(3, 44_100), 44_100, "mp3", "libmp3lame")
WAV = encode(tone(3, 16_000), 16_000, "wav", "pcm_s16le")


class File(io.BytesIO):
    """Counts reads; the one with number `at` runs `event`."""

    def __init__(self, data: bytes, at: int = -1, event: Callable[[], None] = lambda: None) -> None:
        super().__init__(data)
        self.reads = 0
        self._at, self._event = at, event

    def read(self, size: int | None = -1) -> bytes:
        self.reads += 1
        if self.reads == self._at:
            self._event()
        return super().read(size)


def fails(error: Exception) -> Callable[[], None]:
    def fail() -> None:
        raise error

    return fail


def decode(file: object) -> int:
    return sum(block.shape[1] for block in decoding.decode(file, split=False, max_seconds=3600))


@settings(deadline=None)
@given(number=st.sampled_from(WANTS), at=st.integers(1, 6), data=st.sampled_from([MP3, WAV]))
def test_what_the_machine_lacks_is_no_fault_of_the_file(number: int, at: int, data: bytes) -> None:
    file = File(data, at, fails(OSError(number, "no")))
    try:
        assert abs(decode(watched.Watched(file)) - 48_000) < 2000
        assert file.reads < at
    except OSError as error:
        fault = engine.fault_of(error, "decoding")
        assert fault.code is FaultCode.UNAVAILABLE and not fault.param


@given(number=st.sampled_from(sorted(errno.errorcode)))
def test_faults_of_every_errno(number: int) -> None:
    fault = engine.fault_of(OSError(number, "secret"), "decoding")
    assert fault.code is (FaultCode.UNAVAILABLE if number in WANTS else FaultCode.INTERNAL)
    assert "secret" not in fault.message
    assert engine.fault_of(MemoryError(), "decoding").code is FaultCode.UNAVAILABLE
    assert wire.Fault.load(fault.dump()) == fault


@pytest.mark.parametrize("number", WANTS)
def test_a_file_that_cannot_be_opened_for_now(tmp_path: Path, number: int, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a.wav").write_bytes(WAV)
    monkeypatch.setattr(sources.os, "open", lambda *_: fails(OSError(number, "no"))())
    with pytest.raises(OSError, match="no"):
        sources.open_file(str(tmp_path / "a.wav"), [tmp_path])


def test_a_header_has_a_deadline(monkeypatch: pytest.MonkeyPatch) -> None:
    file = File(tagged(MP3, 20_000))
    size = len(file.getvalue())
    monkeypatch.setattr(watched, "HEADER_SECONDS", -1.0)
    with pytest.raises(InvalidInput, match="header takes longer") as caught:
        decode(watched.Watched(file))
    assert caught.value.param == "file"
    assert file.reads <= 1 and file.tell() < size


def test_sound_has_none(monkeypatch: pytest.MonkeyPatch) -> None:
    file = watched.Watched(File(WAV))
    file.header_is_read()
    monkeypatch.setattr(watched, "HEADER_SECONDS", -1.0)
    assert file.read(4) == b"RIFF"


@pytest.mark.parametrize("data", [tagged(MP3, 20_000), WAV, MP3 * 40], ids=["tag", "wav", "mp3"])
@pytest.mark.parametrize("at", [1, 2, 5])
def test_reading_ends_with_its_client(data: bytes, at: int) -> None:
    file = File(data, at, lambda: watch.cancel())
    watch = watched.Watched(file)
    with pytest.raises(watched.Cancelled):
        decode(watch)
        watch.check()
    assert file.reads <= at


def compute(until: Callable[[], object]) -> None:
    """What native code does that does not come back."""
    deadline = time.monotonic() + 30
    while not until():
        assert time.monotonic() < deadline


@pytest.mark.parametrize("is_cancelled", [True, False])
def test_what_does_not_come_back_is_given_up(is_cancelled: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(overseer, "LOOK", 0.01)
    monkeypatch.setattr(overseer, "GRACE", 0.05)
    monkeypatch.setattr(watched, "HEADER_SECONDS", 30.0 if is_cancelled else 0.05)
    given_up: list[InvalidInput | None] = []
    with overseer.Overseer(watched.Watched(File(MP3)), lambda: is_cancelled, given_up.append):
        compute(lambda: given_up)
    (late,) = given_up
    assert late is None if is_cancelled else "header takes longer" in str(late)


def test_what_comes_back_is_not_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nor is what only waits: for a disk, or for its share of a busy machine."""
    monkeypatch.setattr(overseer, "LOOK", 0.01)
    monkeypatch.setattr(overseer, "GRACE", 0.05)
    given_up: list[InvalidInput | None] = []
    watch = watched.Watched(File(MP3))
    with overseer.Overseer(watch, lambda: True, given_up.append), pytest.raises(watched.Cancelled):
        time.sleep(0.3)
        decode(watch)
    watch = watched.Watched(File(MP3))
    with overseer.Overseer(watch, lambda: False, given_up.append):
        assert abs(decode(watch) - 48_000) < 2000
    assert given_up == []


def test_a_long_tag_is_no_reason_to_refuse() -> None:
    assert abs(decode(watched.Watched(File(tagged(MP3, 500)))) - 48_000) < 2000


@pytest.mark.parametrize(("chunks", "known"), [(50, True), (200_000, False)])
def test_a_walk_over_empty_chunks_has_an_end(chunks: int, known: bool) -> None:
    file = File(WAV[:36] + b"junk\0\0\0\0" * chunks + WAV[36:])
    assert (wav.declared_seconds(watched.Watched(file)) is not None) is known
    assert file.reads < 120


_CHILD = """
import io, resource, sys
from harness.engine_modules import load
from harness.hostile import bomb, tagged
from talkies_kit.wire import InvalidInput
ceiling, decoding, watched = (load("audio_chunks", name) for name in ("ceiling", "decoding", "watched"))
ceiling.lower()
if sys.argv[1] == "starved":
    held = []
    resource.setrlimit(resource.RLIMIT_AS, (ceiling._data() + (8 << 20),) * 2)
try:
    file = watched.Watched(io.BytesIO(sys.stdin.buffer.read()))
    print(sum(1 for _ in decoding.decode(file, split=False, max_seconds=60)))
except Exception as error:
    print(type(error).__name__, error)
# Not ru_maxrss, which begins with what the parent had.
(peak,) = (line for line in open("/proc/self/status") if line.startswith("VmHWM"))
print(int(peak.split()[1]) >> 10)
"""


def child(data: bytes, way: str) -> tuple[str, int]:
    """What a process with the ceiling says of a file, and the most memory it had, in MiB."""
    done = subprocess.run([sys.executable, "-c", _CHILD, way], input=data, capture_output=True, check=True)
    said, memory = done.stdout.decode().splitlines()
    return said, int(memory)


def test_a_header_that_unpacks_to_gigabytes_is_refused_for_little() -> None:
    said, memory = child(bomb(1_600_000_000), "free")
    assert said == "InvalidInput the file wants more memory than any recording needs"
    assert memory < 400
    assert "InvalidInput" not in child(MP3, "free")[0]


def test_a_process_that_gets_no_memory_does_not_blame_the_file() -> None:
    said, _ = child(bomb(1_600_000_000), "starved")
    assert said.startswith(("MemoryError", "OSError"))


def test_the_ceiling_is_never_raised() -> None:
    before = resource.getrlimit(resource.RLIMIT_DATA)
    try:
        resource.setrlimit(resource.RLIMIT_DATA, (ceiling._data() + (100 << 20), before[1]))
        low = resource.getrlimit(resource.RLIMIT_DATA)
        ceiling.lower()
        assert resource.getrlimit(resource.RLIMIT_DATA) == low
    finally:
        resource.setrlimit(resource.RLIMIT_DATA, before)
    assert ceiling.has_room()
    assert np.ones(1).any()
