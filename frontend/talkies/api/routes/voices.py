"""GET /v1/audio/voices."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

from fastapi import APIRouter

from talkies.api.services import Services


@dataclass(frozen=True, slots=True)
class VoiceEntry:
    """A voice; its name three times."""

    voice: str
    id: str
    name: str
    model: str
    default: bool
    origin: str | None = None
    """Of a voice that is cloned from a reference clip."""
    language: str | None = None
    """What it speaks."""
    gender: str | None = None


def router(services: Services) -> APIRouter:
    routes = APIRouter(prefix="/v1/audio", tags=["audio"])

    @routes.get("/voices", response_model_exclude_none=True)
    async def voices() -> dict[str, list[VoiceEntry]]:
        """The voices of all TTS models; `id` and `name` repeat `voice` for clients that look for those."""
        found = await asyncio.to_thread(services.voices.all)
        return {
            "voices": [
                VoiceEntry(v.name, v.name, v.name, v.model, v.default, v.origin, v.language, v.gender) for v in found
            ]
        }

    return routes
