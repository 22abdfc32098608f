"""Speech that goes out while it is made: as chunks of audio, or as OpenAI's server-sent events."""

from __future__ import annotations

import base64
import json
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Any

import structlog
from starlette.requests import Request
from starlette.responses import StreamingResponse
from starlette.types import Receive, Scope, Send

from talkies.backlog import read_ahead
from talkies.errors import TalkiesError
from talkies.routers.disconnect import while_connected

log = structlog.get_logger("talkies.speech")

EVENTS = "text/event-stream"
_AHEAD = 4 << 20
"""Bytes of encoded audio that may wait for a slow reader: 4 minutes of MP3, 87 s of WAV at 24 kHz. Speech that fits in
gives its place in the model back when it is made, not when it is read."""
_USAGE = {"input_tokens": 0, "output_tokens": 0, "total_tokens": 0}
"""OpenAI's clients may expect the numbers; the engines here count no tokens."""


class SpeechStream(StreamingResponse):
    """Sends encoded `audio` as it comes; ends it when the client hangs up.

    The headers wait for the first bytes, so a failure before them is an ordinary error answer. After them, events end
    with an `error` event, and audio with a broken connection: a truncated file must not look whole.
    """

    def __init__(self, audio: AsyncGenerator[bytes], media_type: str, headers: dict[str, str]) -> None:
        self._as_events = media_type == EVENTS
        self._audio = read_ahead(audio, _AHEAD)
        # Proxies would collect what is meant to be heard at once.
        headers = {"cache-control": "no-cache", "x-accel-buffering": "no", **headers}
        super().__init__(self._audio, media_type=media_type, headers=headers)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await while_connected(Request(scope, receive), self.stream_response(send))

    async def stream_response(self, send: Send) -> None:
        started = False
        try:
            async with aclosing(self._audio):
                async for piece in self._audio:
                    if not started:
                        await send({"type": "http.response.start", "status": 200, "headers": self.raw_headers})
                        started = True
                    if self._as_events:
                        piece = _event(type="speech.audio.delta", audio=base64.b64encode(piece).decode())
                    await send({"type": "http.response.body", "body": piece, "more_body": True})
            last = _event(type="speech.audio.done", usage=_USAGE)
        except TalkiesError as error:
            if not started:
                raise
            log.warning("speech broke off", error=type(error).__name__, code=error.code)
            if not self._as_events:
                return  # without its last message: the server then closes the connection in the middle of the body
            last = _event(**error.body)
        await send({"type": "http.response.body", "body": last if self._as_events else b"", "more_body": False})


def _event(**data: Any) -> bytes:
    return f"data: {json.dumps(data)}\n\n".encode()
