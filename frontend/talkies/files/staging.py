"""Staged files: the paths of the API, where they lie, and how they come and go.

A file that is being written lies in the folder `.incoming` of the staging area, which no path of the API reaches. So it
is on its target's file system, and all other folders hold whole files only.
"""

from __future__ import annotations

import asyncio
import errno
import os
import stat
import threading
import time
import unicodedata
import uuid
from collections.abc import AsyncIterable, AsyncIterator, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import BinaryIO

from talkies_kit.beneath import open_beneath

from talkies import refusals
from talkies.errors import BadRequest, NotFound, TooLarge

_INCOMING = ".incoming"


@dataclass(frozen=True, slots=True)
class StagedFile:
    """An entry of the list."""

    path: str
    size: int
    """In bytes."""
    modified: str
    """ISO 8601 in UTC, whole seconds: 2026-03-15T09:30:00Z."""


class Staging:
    """The files under `root`. Synchronous methods work on the disk: call them in a thread."""

    def __init__(self, root: Path, max_bytes: int, max_total: int = 0) -> None:
        """A file that is put may have `max_bytes`; all together may have `max_total`, 0 for no limit."""
        self._root = root.resolve()
        self._max_total = max_total
        self.changed = asyncio.Event()
        """Set when a file has come."""
        self._incoming = self._root / _INCOMING
        self._max_bytes = max_bytes
        self._tree = threading.Lock()
        """Held while folders come or go, so that none is pruned under a file that is about to be put there."""

    def find(self, path: str, *, param: str = "file_path") -> Path:
        """The staged file that the API calls `path`, resolved; "/a/b.mp3" and "a/b.mp3" are the same.

        Raises BadRequest for a path that could leave the staging area, by its text or through a symbolic link, and
        NotFound when there is no file.
        """
        relative = _relative(path, param)
        missing = NotFound(f"There is no staged file {relative!r}.", param=param)
        target = _real(self._root / relative)
        self._check_inside(target, param)
        try:
            if not target.is_file():
                raise missing
        except OSError:  # too long a name
            raise missing from None
        return target

    def open(self, path: str) -> int:
        """A descriptor of that file, to read. Raises BadRequest, NotFound."""
        gone = NotFound("The staged file has just been deleted.", param="path")
        try:
            descriptor = open_beneath(self._root, self.find(path, param="path"))
        except OSError as error:
            raise refusals.answer_to(error) or gone from None
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            os.close(descriptor)
            raise gone
        return descriptor

    def list(self) -> Sequence[StagedFile]:
        """Every staged file, by its path. Links that lead out, and names that no path of the API can spell, are not."""
        return sorted(self._files(self._root), key=lambda file: file.path)

    async def put(self, path: str, pieces: AsyncIterable[bytes]) -> StagedFile:
        """Write a file in one step: until all `pieces` are on the disk, `path` is what it was before.

        Raises BadRequest for a path that no file can have, TooLarge beyond the cap, OutOfSpace and
        Unavailable for what the machine lacks, and what `pieces` raises.
        """
        return await self.save(path, self._capped(pieces))

    async def save(self, path: str, pieces: AsyncIterable[bytes]) -> StagedFile:
        """As `put`, without its cap."""
        relative = _relative(path, "path")
        size = 0
        with refusals.writing(self._root), _answered(relative):
            await asyncio.to_thread(self._parent, relative)
            part = self._incoming / f"{uuid.uuid4().hex}.part"
            try:
                with _create(part) as output:
                    async for piece in pieces:
                        size += len(piece)
                        if 0 < self._max_total < size:
                            raise TooLarge(f"The file is larger than all may be together, {self._max_total} bytes.")
                        await asyncio.to_thread(output.write, piece)
                    await asyncio.to_thread(_sync, output)
                staged = await asyncio.to_thread(self._publish, part, relative)
                self.changed.set()
                return staged
            finally:
                part.unlink(missing_ok=True)

    def delete(self, path: str) -> None:
        """Remove a file, and the folders that are empty then. Raises BadRequest, NotFound."""
        with self._tree:
            self.find(path, param="path")
            relative = _relative(path, "path")
            folder = _real((self._root / relative).parent)
            self._check_inside(folder, "path")
            try:
                (folder / Path(relative).name).unlink()
            except FileNotFoundError:
                raise NotFound(f"There is no staged file {relative!r}.", param="path") from None
            while folder != self._root:
                try:
                    folder.rmdir()
                except OSError:  # not empty
                    break
                folder = folder.parent

    def discard_leftovers(self, min_age: float = 0.0) -> None:
        """Remove what killed processes were writing: files that nobody has written to for `min_age` seconds."""
        discard_old(self._incoming, min_age)

    async def _capped(self, pieces: AsyncIterable[bytes]) -> AsyncIterator[bytes]:
        size = 0
        async for piece in pieces:
            size += len(piece)
            if size > self._max_bytes:
                raise TooLarge(f"The file is larger than {self._max_bytes} bytes.")
            yield piece

    def _parent(self, relative: str) -> Path:
        """The folder of a file to be written. Raises BadRequest when a file or a link that leads out is in the way."""
        target = self._root / relative
        parent = _real(target.parent)
        self._check_inside(parent, "path")
        self._check_inside(_real(target), "path")
        if target.is_dir():
            raise BadRequest(f"{relative!r} is a folder; name a file in it.", param="path")
        for folder in (parent, *parent.parents):
            if folder == self._root or folder.is_dir():
                return parent
            if folder.exists():
                file = folder.relative_to(self._root).as_posix()
                raise BadRequest(f"{file!r} is a file, so no other file can lie in it.", param="path")
        return parent

    def _publish(self, part: Path, relative: str) -> StagedFile:
        with self._tree:
            parent = self._parent(relative)
            new = [folder for folder in (parent, *parent.parents) if not folder.exists()]
            parent.mkdir(parents=True, exist_ok=True)
            target = parent / Path(relative).name
            try:
                part.replace(target)
            except OSError:
                for folder in new:
                    folder.rmdir()
                raise
            entry = _entry(relative, target.stat())
            for folder in (parent, *(folder.parent for folder in new)):
                _sync_folder(folder)
        return entry

    def _files(self, folder: Path) -> Iterator[StagedFile]:
        try:
            entries = [entry for entry in os.scandir(folder) if entry.path != str(self._incoming)]
        except OSError:  # pruned meanwhile
            return
        for entry in entries:
            path = Path(entry.path)
            if entry.is_dir(follow_symlinks=False):
                yield from self._files(path)
                continue
            try:
                relative = _relative(path.relative_to(self._root).as_posix(), "path")
                yield _entry(relative, self.find(relative).stat())
            except (BadRequest, NotFound, OSError):
                continue

    def _check_inside(self, target: Path, param: str) -> None:
        if not target.is_relative_to(self._root) or target.is_relative_to(self._incoming):
            raise BadRequest("The path leads out of the staging area.", param=param)


def discard_old(folder: Path, min_age: float) -> None:
    """Remove the files of a folder that nobody has written to for `min_age` seconds."""
    latest = time.time() - min_age
    for file in folder.glob("*"):
        with suppress(FileNotFoundError):
            if file.stat().st_mtime <= latest:
                file.unlink()


def _relative(path: str, param: str) -> str:
    relative = path.removeprefix("/")
    if any(part in ("", ".", "..") for part in relative.split("/")) or any(
        character == "\\" or unicodedata.category(character) in ("Cc", "Cs") for character in relative
    ):
        raise BadRequest(
            f"{param} must be a relative path without empty, '.' or '..' segments, backslashes, null bytes and other "
            "control characters.",
            param=param,
        )
    return relative


def _real(path: Path) -> Path:
    """`path` without symbolic links, as far as it exists; a loop of links stays as it is."""
    return Path(os.path.realpath(path))


@contextmanager
def _answered(relative: str) -> Iterator[None]:
    """Turns what the file system refuses into answers."""
    try:
        yield
    except (IsADirectoryError, NotADirectoryError, FileExistsError):
        raise BadRequest(
            f"{relative!r} cannot be a file: a folder, file or link is in its way.", param="path"
        ) from None
    except OSError as error:
        if error.errno == errno.ENAMETOOLONG:
            raise BadRequest("path, or a name in it, is too long.", param="path") from None
        raise


def _create(part: Path) -> BinaryIO:
    """Not for a thread: when the caller is cancelled, it would create the file after its removal."""
    part.parent.mkdir(parents=True, exist_ok=True)
    return part.open("xb")


def _sync(output: BinaryIO) -> None:
    output.flush()
    os.fsync(output.fileno())


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _entry(path: str, status: os.stat_result) -> StagedFile:
    modified = datetime.fromtimestamp(int(status.st_mtime), UTC)
    return StagedFile(path, status.st_size, modified.strftime("%Y-%m-%dT%H:%M:%SZ"))
