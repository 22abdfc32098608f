"""What `file_path` means: a URL is fetched, everything else is a staged file."""

from __future__ import annotations

import asyncio
import contextlib
import re
from pathlib import Path

from talkies.errors import BadRequest
from talkies.files.downloads import Downloads
from talkies.files.retention import Retention, use
from talkies.files.staging import Staging

_SCHEME = re.compile(r"([a-z][a-z0-9+.-]*)://", re.IGNORECASE)


def is_staged(file_path: str) -> bool:
    """Whether it names a staged file and no URL."""
    return not _SCHEME.match(file_path)


class Sources:
    """Finds the audio that requests name."""

    def __init__(self, staging: Staging, downloads: Downloads, retention: Retention) -> None:
        self._staging = staging
        self._downloads = downloads
        self.hold = retention.hold

    async def locate(self, file_path: str) -> Path:
        """The file that `file_path` names; it lies in the staging area, and stays there while it is held.

        Raises BadRequest for a path or URL that is not allowed or a URL that cannot be fetched, NotFound for a staged
        file that is not there.
        """
        if scheme := _SCHEME.match(file_path):
            if scheme[1].lower() in ("http", "https"):
                return await self._used(await self._downloads.fetch(file_path))
            raise BadRequest(
                "file_path must be a staged file's path or a URL that begins with http:// or https://.",
                param="file_path",
            )
        return await self._used(await asyncio.to_thread(self._staging.find, file_path))

    async def _used(self, path: Path) -> Path:
        with contextlib.suppress(OSError):  # of another user, or just deleted
            await asyncio.to_thread(use, path)
        return path
