"""Paths as people configure them: with a slash at the end."""

from __future__ import annotations

from starlette.types import ASGIApp, Receive, Scope, Send

_NAMES_A_FILE = "/v1/files/"


class TrailingSlash:
    """Pure-ASGI middleware: `/v1/models/` is `/v1/models`.

    It is no redirect, after which a client would send its upload once more, or nothing: curl does not follow. It comes
    before whatever looks at the path.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        path = scope.get("path", "")
        if path.endswith("/") and len(path) > 1 and not path.startswith(_NAMES_A_FILE):
            scope = {**scope, "path": path.rstrip("/") or "/"}
        await self._app(scope, receive, send)
