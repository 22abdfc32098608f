"""Which staged files go when they are old or take too much room."""

from __future__ import annotations

import asyncio
import os
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from talkies.errors import TooLarge
from talkies.files.retention import Retention, use
from talkies.files.staging import Staging

TTL = 1000.0
MAX = 100
FILES = st.lists(
    st.tuples(st.integers(0, 2 * int(TTL) // 100).map(lambda n: n * 100 + 50), st.integers(0, 60), st.booleans()),
    max_size=12,
)


@given(FILES, st.booleans(), st.booleans())
def test_the_least_recently_used_go(files: list[tuple[int, int, bool]], limited: bool, aged: bool) -> None:
    """(age in seconds, size, whether a request holds it)"""
    with tempfile.TemporaryDirectory() as folder, ExitStack() as requests:
        root = Path(folder).resolve()
        retention = Retention(Staging(root, 1000), ttl=TTL if aged else 0, max_bytes=MAX if limited else 0, interval=60)
        now, made = time.time(), {}
        for number, (age, size, held) in enumerate(files):
            path = root / f"folder {number % 3}" / f"{number}.wav"
            path.parent.mkdir(exist_ok=True)
            path.write_bytes(b"x" * size)
            made[path] = (age, size, held)
            if held:
                requests.enter_context(retention.hold(path))
            os.utime(path, (now - age, now - age - 5))
        retention.sweep()
        kept = {path: facts for path, facts in made.items() if path.exists()}
        gone = {path: facts for path, facts in made.items() if path not in kept}
        assert not any(held for _, _, held in gone.values())
        assert all(held or not aged or age < TTL for age, _, held in kept.values())
        if limited:
            free = [age for age, size, held in kept.values() if not held and size]
            assert not free or sum(size for _, size, _ in kept.values()) <= MAX
        for age, _, _ in gone.values():
            if not (aged and age > TTL):
                assert limited
                assert all(held or other <= age for other, _, held in kept.values())
        if not (limited or aged):
            assert not gone


async def test_a_use_keeps_a_file(tmp_path: Path) -> None:
    staging = Staging(tmp_path, 1000)
    retention = Retention(staging, ttl=100, max_bytes=0, interval=60)
    for name in ("used", "not"):
        (tmp_path / name).write_bytes(b"x")
        os.utime(tmp_path / name, (time.time() - 200,) * 2)
    use(tmp_path / "used")
    retention.sweep()
    assert [file.path for file in staging.list()] == ["used"]


async def test_what_comes_makes_room_at_once(tmp_path: Path) -> None:
    staging = Staging(tmp_path, 1000, max_total=10)
    retention = Retention(staging, ttl=0, max_bytes=10, interval=3600)
    running = asyncio.create_task(retention.run())

    async def put(name: str) -> None:
        async def pieces():  # type: ignore[no-untyped-def]
            yield b"123456"

        await staging.put(name, pieces())

    await put("first")
    await put("second")
    async with asyncio.timeout(20):
        while [file.path for file in staging.list()] != ["second"]:  # noqa: ASYNC110
            await asyncio.sleep(0.01)
    running.cancel()


async def test_a_file_that_is_larger_than_all_may_be_is_refused(tmp_path: Path) -> None:
    async def pieces():  # type: ignore[no-untyped-def]
        yield b"123"
        yield b"456"

    staging = Staging(tmp_path, 1000, max_total=5)
    with pytest.raises(TooLarge, match="5 bytes"):
        await staging.put("a", pieces())
    assert staging.list() == []
