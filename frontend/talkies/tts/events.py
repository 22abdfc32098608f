"""Speech as the events of OpenAI's `stream_format=sse`."""

from __future__ import annotations

import base64
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Any

_USAGE = {"input_tokens": 0, "output_tokens": 0, "total_tokens": 0}
"""OpenAI's clients may expect the numbers; the engines here count no tokens."""

Event = dict[str, Any]


async def events_of(audio: AsyncGenerator[bytes]) -> AsyncGenerator[list[Event]]:
    """The events that each piece of encoded `audio` makes, and the one that ends them."""
    async with aclosing(audio):
        async for piece in audio:
            yield [{"type": "speech.audio.delta", "audio": base64.b64encode(piece).decode()}]
    yield [{"type": "speech.audio.done", "usage": _USAGE}]
