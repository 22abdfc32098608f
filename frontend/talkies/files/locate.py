"""What `file_path` means: a URL is fetched, everything else is a staged file."""

from __future__ import annotations

import asyncio
import re
from pathlib import Path

from talkies.downloads import Downloads
from talkies.errors import BadRequest
from talkies.staging import Staging

_SCHEME = re.compile(r"([a-z][a-z0-9+.-]*)://", re.IGNORECASE)


class Sources:
    """Finds the audio that requests name."""

    def __init__(self, staging: Staging, downloads: Downloads) -> None:
        self._staging = staging
        self._downloads = downloads

    async def locate(self, file_path: str) -> Path:
        """The file that `file_path` names; it lies in the staging area.

        Raises BadRequest for a path or URL that is not allowed or a URL that cannot be fetched, NotFound for a staged
        file that is not there.
        """
        if scheme := _SCHEME.match(file_path):
            if scheme[1].lower() in ("http", "https"):
                return await self._downloads.fetch(file_path)
            raise BadRequest(
                "file_path must be a staged file's path or a URL that begins with http:// or https://.",
                param="file_path",
            )
        return await asyncio.to_thread(self._staging.find, file_path)
