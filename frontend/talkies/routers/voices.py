"""GET /v1/audio/voices."""

from __future__ import annotations

import asyncio
from typing import Any

from fastapi import APIRouter

from talkies.voices import Voices


def router(catalogue: Voices) -> APIRouter:
    routes = APIRouter(prefix="/v1/audio", tags=["audio"])

    @routes.get("/voices")
    async def voices() -> dict[str, list[dict[str, Any]]]:
        """The voices of all TTS models; `id` and `name` repeat `voice` for clients that look for those."""
        found = await asyncio.to_thread(catalogue.all)
        return {
            "voices": [
                {"voice": v.name, "id": v.name, "name": v.name, "model": v.model, "default": v.default} for v in found
            ]
        }

    return routes
