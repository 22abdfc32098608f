"""HEAD of everything that GET answers: what link checkers, load balancers and monitors ask for."""

from __future__ import annotations

from starlette.types import ASGIApp, Message, Receive, Scope, Send

_HAS_ITS_OWN = "/v1/files/"


class HeadAsGet:
    """Pure-ASGI middleware, the innermost: answers HEAD with GET's headers. Those outside of it still see HEAD."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["method"] != "HEAD" or scope["path"].startswith(_HAS_ITS_OWN):
            await self._app(scope, receive, send)
            return

        async def send_no_body(message: Message) -> None:
            await send({**message, "body": b""} if message["type"] == "http.response.body" else message)

        asked = {**scope, "method": "GET"}
        try:
            await self._app(asked, receive, send_no_body)
        finally:
            if "route" in asked:
                scope["route"] = asked["route"]  # which the log and the metrics look for
