"""Staged files on the disk: which paths there are, and that a file is there whole or not at all."""

from __future__ import annotations

import asyncio
import errno
import os
import tempfile
import threading
import unicodedata
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from talkies.errors import BadRequest, NotFound, OutOfSpace, TalkiesError, TooLarge, Unavailable
from talkies.files.staging import Staging

CAP = 1000


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (root := tmp_path / "files").mkdir()
    return root


@pytest.fixture
def staging(root: Path) -> Staging:
    return Staging(root, CAP)


async def pieces(*content: bytes) -> AsyncIterator[bytes]:
    for piece in content:
        yield piece


def on_disk(root: Path) -> set[str]:
    """Everything under the root, less the empty folder of files that are being written."""
    return {str(path.relative_to(root)) for path in root.rglob("*")} - {".incoming"}


async def test_a_file_comes_is_listed_and_goes(staging: Staging, root: Path) -> None:
    staged = await staging.put("/talks/2026/one.mp3", pieces(b"ab", b"", b"c"))
    assert (staged.path, staged.size) == ("talks/2026/one.mp3", 3)
    assert (root / staged.path).read_bytes() == b"abc"
    assert staging.find("talks/2026/one.mp3") == staging.find("/talks/2026/one.mp3") == root / staged.path
    os.utime(root / staged.path, (1_773_567_000.9, 1_773_567_000.9))
    await staging.put("b", pieces())
    await staging.put("Ä ?#%.wav", pieces(b"x"))
    listed = staging.list()
    assert [file.path for file in listed] == ["b", "talks/2026/one.mp3", "Ä ?#%.wav"]
    assert [file.size for file in listed] == [0, 3, 1]
    assert listed[1].modified == "2026-03-15T09:30:00Z"
    staging.delete("/talks/2026/one.mp3")
    assert on_disk(root) == {"b", "Ä ?#%.wav"}
    staging.delete("b")
    staging.delete("Ä ?#%.wav")
    assert root.is_dir()
    assert staging.list() == []


async def test_only_empty_folders_are_pruned(staging: Staging, root: Path) -> None:
    for path in ("a/b/c/x", "a/y"):
        await staging.put(path, pieces(b"1"))
    staging.delete("a/b/c/x")
    assert on_disk(root) == {"a", "a/y"}


HOSTILE = ["", "/", "//a", "a//b", "a/", ".", "..", "./a", "a/.", "a/../b", "../a", "a\\b", "a\0b", "a\nb", "\udc80"]


@pytest.mark.parametrize("path", [*HOSTILE, ".incoming/x.part", ".incoming"])
async def test_hostile_paths(staging: Staging, root: Path, path: str) -> None:
    (root / ".incoming").mkdir()
    (root / ".incoming" / "x.part").touch()
    with pytest.raises(BadRequest) as found:
        staging.find(path)
    assert found.value.param == "file_path"
    with pytest.raises(BadRequest) as put:
        await staging.put(path, pieces(b"1"))
    with pytest.raises(BadRequest) as deleted:
        staging.delete(path)
    assert put.value.param == deleted.value.param == "path"
    assert on_disk(root) == {".incoming/x.part"}


@settings(max_examples=300, deadline=None)
@given(
    st.lists(st.sampled_from(["a", "é", "b.wav", "...", " ", "", ".", "..", "\0", "\\", "\x7f"]), max_size=5).map(
        "/".join
    )
    | st.text()
)
def test_a_path_is_refused_or_stays_inside(path: str) -> None:
    segments = path.removeprefix("/").split("/")
    sound = all(segment not in ("", ".", "..") for segment in segments) and not any(
        c == "\\" or unicodedata.category(c) in ("Cc", "Cs") for c in path
    )
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder).resolve() / "files"
        root.mkdir()
        staging = Staging(root, CAP)
        if not sound:
            with pytest.raises(BadRequest):
                asyncio.run(staging.put(path, pieces(b"1")))
            assert [p for p in Path(folder).rglob("*") if not p.is_dir()] == []
            return
        if max(len(segment.encode()) for segment in segments) > 255:
            return
        asyncio.run(staging.put(path, pieces(b"1")))
        assert [file.path for file in staging.list()] == ["/".join(segments)]
        assert staging.find(path).read_bytes() == b"1"
        staging.delete(path)
        assert on_disk(root) == set()


@pytest.mark.parametrize(
    "path", ["nothing", "talks", "talks/one/two", "x" * 300, "y/" * 3000 + "y", "loop", "dangling"]
)
async def test_files_that_are_not_there(staging: Staging, root: Path, path: str) -> None:
    await staging.put("talks/one", pieces(b"1"))
    (root / "loop").symlink_to("loop")
    (root / "dangling").symlink_to("gone")
    with pytest.raises(NotFound):
        staging.find(path)
    with pytest.raises(NotFound):
        staging.delete(path)


@pytest.mark.parametrize(
    ("path", "words"),
    [
        ("talks", "is a folder"),
        ("talks/one/two", "'talks/one' is a file"),
        ("talks/one/two/three", "'talks/one' is a file"),
        ("x" * 256, "too long"),
        ("x" * 256 + "/y", "too long"),
        ("new/" + "x" * 256, "too long"),
        ("ä" * 128, "too long"),
        ("y/" * 3000 + "y", "too long"),
        ("loop/x", "in its way"),
    ],
)
async def test_places_where_no_file_can_be_put(staging: Staging, root: Path, path: str, words: str) -> None:
    await staging.put("talks/one", pieces(b"1"))
    (root / "loop").symlink_to("loop")
    before = on_disk(root)
    with pytest.raises(BadRequest, match=words) as refused:
        await staging.put(path, pieces(b"2"))
    assert refused.value.param == "path"
    assert str(root) not in refused.value.message
    assert on_disk(root) == before


async def test_links_that_lead_out_are_refused(staging: Staging, root: Path, tmp_path: Path) -> None:
    (outside := tmp_path / "outside").mkdir()
    (outside / "secret").write_bytes(b"secret")
    (root / "folder").symlink_to(outside)
    (root / "file").symlink_to(outside / "secret")
    (root / "fresh").symlink_to(outside / "fresh")
    (root / "relative").symlink_to("../outside")
    paths = ["folder/secret", "file", "relative/secret", "folder/new", "folder/sub/new", "fresh"]
    for path in paths:
        with pytest.raises(BadRequest, match="leads out"):
            staging.find(path)
        with pytest.raises(BadRequest, match="leads out"):
            await staging.put(path, pieces(b"mine"))
        with pytest.raises(BadRequest, match="leads out"):
            staging.delete(path)
    assert {path.name: path.read_bytes() for path in outside.iterdir()} == {"secret": b"secret"}
    assert staging.list() == []


async def test_a_link_out_is_no_way_back_in(staging: Staging, root: Path, tmp_path: Path) -> None:
    await staging.put("one", pieces(b"1"))
    (outside := tmp_path / "outside").mkdir()
    (outside / "back").symlink_to(root / "one")
    (root / "out").symlink_to(outside)
    with pytest.raises(BadRequest, match="leads out"):
        await staging.put("out/back", pieces(b"2"))
    with pytest.raises(BadRequest, match="leads out"):
        staging.delete("out/back")
    assert (outside / "back").is_symlink()


async def test_a_link_that_appears_while_a_file_comes(staging: Staging, root: Path, tmp_path: Path) -> None:
    (outside := tmp_path / "outside").mkdir()

    async def linking() -> AsyncIterator[bytes]:
        yield b"1"
        (root / "talks").symlink_to(outside)

    with pytest.raises(BadRequest, match="leads out"):
        await staging.put("talks/one", linking())
    assert list(outside.iterdir()) == []


async def test_links_inside(staging: Staging, root: Path) -> None:
    await staging.put("real/one", pieces(b"1"))
    (root / "alias").symlink_to("real")
    (root / "two").symlink_to("real/one")
    assert [file.path for file in staging.list()] == ["real/one", "two"]  # and no file twice, nor for ever
    assert staging.find("alias/one") == root / "real" / "one"
    staging.delete("two")
    assert (root / "real" / "one").exists()
    await staging.put("alias/three", pieces(b"3"))
    assert (root / "real" / "three").read_bytes() == b"3"
    (root / "real" / "itself").symlink_to(".")
    assert [file.path for file in staging.list()] == ["real/one", "real/three"]


async def test_what_no_path_can_spell_is_not_listed(staging: Staging, root: Path) -> None:
    for name in (b"back\\slash", b"line\nbreak", b"\xff.wav"):
        Path(os.fsdecode(os.fsencode(root) + b"/" + name)).touch()
    os.mkfifo(root / "pipe")
    assert staging.list() == []


async def test_the_cap(staging: Staging, root: Path) -> None:
    await staging.put("most", pieces(b"x" * CAP))
    with pytest.raises(TooLarge):
        await staging.put("more/one", pieces(b"x" * CAP, b"x"))
    await staging.save("unlimited", pieces(b"x" * CAP, b"x"))
    assert on_disk(root) == {"most", "unlimited"}


@pytest.mark.parametrize("failure", [RuntimeError("hung up"), asyncio.CancelledError()])
async def test_a_broken_off_file_leaves_the_old_one(staging: Staging, root: Path, failure: BaseException) -> None:
    async def broken() -> AsyncIterator[bytes]:
        yield b"n" * 100_000
        assert staging.find("one").read_bytes() == b"old"
        assert [file.path for file in staging.list()] == ["one"]
        raise failure

    await staging.put("one", pieces(b"old"))
    for path in ("one", "new/two"):
        with pytest.raises(type(failure)):
            await staging.save(path, broken())
    assert on_disk(root) == {"one"}
    assert (root / "one").read_bytes() == b"old"


async def test_cancelled_at_any_moment(root: Path) -> None:
    """No leftovers, and the whole old or the whole new file."""
    staging = Staging(root, CAP)
    await staging.put("a/one", pieces(b"old"))

    async def slow() -> AsyncIterator[bytes]:
        for _ in range(3):
            await asyncio.sleep(0)
            yield b"new"

    for delay in range(40):
        task = asyncio.create_task(staging.put("a/one", slow()))
        await asyncio.sleep(delay * 0.0002)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        await asyncio.sleep(0.005)
        assert on_disk(root) == {"a", "a/one"}
        assert (root / "a" / "one").read_bytes() in (b"old", b"newnewnew")


async def test_puts_of_one_path_do_not_mix(staging: Staging, root: Path) -> None:
    async def slowly(letter: bytes) -> AsyncIterator[bytes]:
        for _ in range(50):
            yield letter
            await asyncio.sleep(0)

    await asyncio.gather(*(staging.put("a/one", slowly(bytes([65 + n]))) for n in range(10)))
    content = (root / "a" / "one").read_bytes()
    assert content == content[:1] * 50
    assert on_disk(root) == {"a", "a/one"}


async def test_a_folder_is_not_pruned_under_a_file_that_comes(staging: Staging, root: Path) -> None:
    await staging.put("a/b/x", pieces(b"1"))
    stop = threading.Event()

    def delete_for_ever() -> int:
        count = 0
        while not stop.is_set():
            try:
                staging.delete("a/b/x")
                count += 1
            except NotFound:
                pass
        return count

    deleting = asyncio.create_task(asyncio.to_thread(delete_for_ever))
    try:
        for _ in range(100):
            await staging.put("a/b/x", pieces(b"1"))
            await staging.put("a/b/y", pieces(b"1"))
            await asyncio.to_thread(staging.delete, "a/b/y")
            staging.list()
    finally:
        stop.set()
    assert await deleting > 5


async def test_leftovers_of_a_killed_process(staging: Staging, root: Path) -> None:
    staging.discard_leftovers()
    for name, age in (("old.part", 100), ("new.part", 0)):
        (root / ".incoming").mkdir(exist_ok=True)
        (part := root / ".incoming" / name).write_bytes(b"x")
        os.utime(part, (part.stat().st_mtime - age,) * 2)
    assert staging.list() == []
    staging.discard_leftovers(min_age=50)
    assert on_disk(root) == {".incoming/new.part"}
    staging.discard_leftovers()
    assert on_disk(root) == set()


@pytest.mark.parametrize(
    ("code", "answer"), [(errno.ENOSPC, OutOfSpace), (errno.EDQUOT, OutOfSpace), (errno.EIO, Unavailable)]
)
async def test_a_disk_that_takes_no_more(
    staging: Staging, root: Path, code: int, answer: type[TalkiesError], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fsync(_: int) -> None:
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(os, "fsync", fsync)
    with pytest.raises(answer) as refused:
        await staging.put("a/one", pieces(b"1"))
    assert isinstance(refused.value, TalkiesError)
    assert on_disk(root) == set()


async def test_a_file_is_on_the_disk_before_it_has_its_name(
    staging: Staging, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[tuple[str, bool, int]] = []

    def recording(real: Callable[[int], None]) -> Callable[[int], None]:
        def fsync(descriptor: int) -> None:
            real(descriptor)
            place = Path(f"/proc/self/fd/{descriptor}").readlink()
            kind = "folder" if place.is_dir() else "file"
            seen.append(
                (kind, (root / "a" / "b" / "one").exists(), os.fstat(descriptor).st_size if kind == "file" else 0)
            )

        return fsync

    monkeypatch.setattr(os, "fsync", recording(os.fsync))
    await staging.put("a/b/one", pieces(b"12", b"3"))
    assert seen == [("file", False, 3), ("folder", True, 0), ("folder", True, 0), ("folder", True, 0)]


@pytest.mark.parametrize("what", ["file", "folder"])
def test_a_link_that_is_swapped_never_leads_out(staging: Staging, root: Path, tmp_path: Path, what: str) -> None:
    """Who may write into the staging area swaps a file, or its folder, for a link to the outside again and again."""
    outside = tmp_path / "outside"
    for folder, content in ((root / "in", b"staged"), (outside, b"secret")):
        folder.mkdir()
        (folder / "a").write_bytes(content)
    swapped = root / "in" if what == "folder" else root / "in" / "a"
    target = outside if what == "folder" else outside / "a"
    done = threading.Event()

    def swap() -> None:
        aside = tmp_path / "aside"
        while not done.is_set():
            swapped.rename(aside)
            swapped.symlink_to(target)
            swapped.unlink()
            aside.rename(swapped)

    thread = threading.Thread(target=swap)
    thread.start()
    read: set[bytes] = set()
    try:
        for _ in range(4000):
            try:
                descriptor = staging.open("in/a")
            except (BadRequest, NotFound):
                continue
            with os.fdopen(descriptor, "rb") as file:
                read.add(file.read())
    finally:
        done.set()
        thread.join()
    assert read == {b"staged"}
