"""GET /v1/models and /v1/models/{id}."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

from fastapi import APIRouter

from talkies.api import openapi
from talkies.api.services import Services
from talkies.engines.loader import is_installed
from talkies.families import Modality
from talkies.registry import Model

OPENAI_TTS = ("tts-1", "tts-1-hd", "gpt-4o-mini-tts")
"""The names of those that speak which clients offer their users."""


@dataclass(frozen=True, slots=True)
class ModelEntry:
    """A model as OpenAI lists it, and what it does."""

    id: str
    object: Literal["model"]
    created: int
    owned_by: str
    modality: Modality
    languages: Sequence[str]
    available: bool
    """Whether its weights and environment are there, so that it can be loaded."""


@dataclass(frozen=True, slots=True)
class SpeakingModel:
    """A model as Open WebUI wants to see those that speak."""

    id: str


@dataclass(frozen=True, slots=True)
class ModelList:
    object: Literal["list"]
    data: list[ModelEntry]


def router(services: Services) -> APIRouter:
    settings, registry = services.settings, services.registry
    routes = APIRouter(prefix="/v1", tags=["models"])
    created = int(settings.models_file.stat().st_mtime)

    def entries(models: Iterable[Model]) -> list[ModelEntry]:
        return [
            ModelEntry(
                id=model.slug,
                object="model",
                created=created,
                owned_by=model.repo.partition("/")[0],
                modality=model.modality,
                languages=model.languages,
                available=is_installed(settings, model),
            )
            for model in models
        ]

    @routes.get("/models")
    async def list_models() -> ModelList:
        """The served models; `modality` is "asr" or "tts"."""
        return ModelList("list", await asyncio.to_thread(entries, registry.values()))

    @routes.get("/models/{model_id:path}", responses=openapi.responses(404, 422))
    async def get_model(model_id: str) -> ModelEntry:
        """One model; a slash in the id may come as %2F."""
        (entry,) = await asyncio.to_thread(entries, [registry.find(model_id)])
        return entry

    @routes.get("/audio/models")
    async def list_speaking_models() -> dict[str, list[SpeakingModel]]:
        """The models that speak and can be loaded, behind the names of OpenAI that mean the default."""
        able = await asyncio.to_thread(entries, (m for m in registry.values() if m.modality is Modality.TTS))
        names = OPENAI_TTS if Modality.TTS in registry.defaults else ()
        return {"models": [SpeakingModel(id) for id in [*names, *(entry.id for entry in able if entry.available)]]}

    return routes
