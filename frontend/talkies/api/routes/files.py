"""Staged files: GET /v1/files, and PUT, GET, HEAD and DELETE of /v1/files/{path}."""

from __future__ import annotations

import asyncio
import contextlib
import mimetypes
import os
from collections.abc import Sequence
from typing import Any

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import FileResponse, JSONResponse
from starlette.types import Message, Receive, Scope, Send

from talkies.api import openapi
from talkies.api.bodies import receive_stream
from talkies.api.services import Services
from talkies.errors import BadRequest, NotFound, RangeNotSatisfiable
from talkies.files.retention import use
from talkies.files.staging import StagedFile, Staging

_PREFIX = "/v1/files/"
_UNTRUSTED = {
    # Whoever stages a page must not have it run as one of this server's own.
    "Content-Disposition": "attachment",
    "Content-Security-Policy": "sandbox",
    "X-Content-Type-Options": "nosniff",
    # A file may be replaced at any time.
    "Cache-Control": "no-cache",
}


def router(services: Services) -> APIRouter:
    staging = services.staging
    routes = APIRouter(tags=["files"])

    @routes.get("/v1/files")
    async def files() -> dict[str, Sequence[StagedFile]]:
        """Every staged file, downloads included, by its path: size in bytes, time of the last change in UTC."""
        return {"files": await asyncio.to_thread(staging.list)}

    @routes.put(
        _PREFIX + "{path:path}",
        response_model=StagedFile,
        openapi_extra=_put_openapi(),
        responses={201: {"model": StagedFile, "description": "The file is new."}, **openapi.responses(400, 413, 507)},
    )
    async def put(request: Request) -> JSONResponse:
        """Stage the body, as it is, under this path; 201 for a new file, 200 for one that replaces another."""
        path = _path(request)
        async with receive_stream(request, services.settings.max_upload_bytes) as pieces:
            if "content-range" in request.headers:
                raise BadRequest("A file is staged as a whole: Content-Range is not supported.")
            status = 200 if await asyncio.to_thread(_exists, staging, path) else 201
            file = await staging.put(path, pieces)
        return JSONResponse({"path": file.path, "size": file.size, "modified": file.modified}, status)

    @routes.head(_PREFIX + "{path:path}", include_in_schema=False)
    @routes.get(
        _PREFIX + "{path:path}",
        response_class=FileResponse,
        openapi_extra=_get_openapi(),
        responses=openapi.responses(400, 404, 416),
    )
    async def get(request: Request) -> FileResponse:
        """The staged file; its type is guessed from its name. Ranges are honoured."""
        _drop_unknown_range(request)
        return await asyncio.to_thread(_open, staging, _path(request))

    @routes.delete(_PREFIX + "{path:path}", openapi_extra=_path_openapi(), responses=openapi.responses(400, 404))
    async def delete(request: Request) -> dict[str, Any]:
        """Remove a staged file, and the folders that are empty then."""
        path = _path(request)
        await asyncio.to_thread(staging.delete, path)
        return {"path": path.removeprefix("/"), "deleted": True}

    return routes


class _OpenFile(FileResponse):
    """Answers with the file that was found, even if the path holds another one meanwhile.

    Starlette answers a bad Range itself, in plain text, and has no hook for it: its status is turned into our error
    before anything is sent.
    """

    def __init__(self, descriptor: int, name: str) -> None:
        self._descriptor = descriptor
        self._size = os.fstat(descriptor).st_size
        media_type, encoding = mimetypes.guess_type(name)
        super().__init__(
            f"/proc/self/fd/{descriptor}",
            headers=_UNTRUSTED,
            media_type=media_type if media_type and not encoding else "application/octet-stream",
            stat_result=os.fstat(descriptor),
        )

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def send_unless_refused(message: Message) -> None:
            match message.get("status"):
                case 400:
                    raise BadRequest("The Range header is malformed.")
                case 416:
                    raise RangeNotSatisfiable(self._size)
            await send(message)

        try:
            await super().__call__(scope, receive, send_unless_refused)
        finally:
            os.close(self._descriptor)


def _open(staging: Staging, path: str) -> FileResponse:
    descriptor = staging.open(path)
    with contextlib.suppress(OSError):
        use(descriptor)
    return _OpenFile(descriptor, path)


def _exists(staging: Staging, path: str) -> bool:
    try:
        staging.find(path, param="path")
    except NotFound:
        return False
    return True


def _path(request: Request) -> str:
    """The path as it was sent; a path parameter would lack a line break at its end."""
    return str(request.scope["path"]).removeprefix(_PREFIX)


def _drop_unknown_range(request: Request) -> None:
    """RFC 9110: a Range in units that the server does not know counts as not sent."""
    if not request.headers.get("range", "").strip().lower().startswith("bytes"):
        request.scope["headers"] = [(name, value) for name, value in request.scope["headers"] if name != b"range"]


def _path_openapi() -> dict[str, Any]:
    return {"parameters": [{"name": "path", "in": "path", "required": True, "schema": {"type": "string"}}]}


def _put_openapi() -> dict[str, Any]:
    content = {"application/octet-stream": {"schema": {"type": "string", "format": "binary"}}}
    return _path_openapi() | {"requestBody": {"required": True, "content": content}}


def _get_openapi() -> dict[str, Any]:
    whole = openapi.binary("The file.", ["*/*"])
    part = {"206": {**whole["200"], "description": "The bytes that the Range header asks for."}}
    return _path_openapi() | {"responses": whole | part}
