"""Staged files: the paths of the API and where they lie."""

from __future__ import annotations

from pathlib import Path

from talkies.errors import BadRequest, NotFound


def find(root: Path, path: str) -> Path:
    """The staged file that the API calls `path`, resolved; "/a/b.mp3" and "a/b.mp3" are the same.

    Raises BadRequest for a path that could leave `root`, by its text or through a symbolic link, and NotFound when
    there is no file.
    """
    relative = path.removeprefix("/")
    if "\0" in relative or "\\" in relative or any(part in ("", ".", "..") for part in relative.split("/")):
        raise BadRequest(
            "file_path must be a relative path without empty, '.' or '..' segments, backslashes and null bytes.",
            param="file_path",
        )
    missing = NotFound(f"There is no staged file {relative!r}.", param="file_path")
    try:
        root = root.resolve()
        target = (root / relative).resolve()
        if not target.is_relative_to(root):
            raise BadRequest("file_path leads out of the staging area.", param="file_path")
        if not target.is_file():
            raise missing
    except (OSError, RuntimeError, ValueError):  # too long a name, a loop of links, no valid UTF-8
        raise missing from None
    return target
