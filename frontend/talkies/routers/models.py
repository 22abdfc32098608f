"""GET /v1/models and /v1/models/{id}."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from fastapi import APIRouter

from talkies import openapi
from talkies.families import Modality
from talkies.registry import Model, Registry
from talkies.settings import Settings


@dataclass(frozen=True, slots=True)
class ModelEntry:
    """A model as OpenAI lists it, and what it does."""

    id: str
    object: Literal["model"]
    created: int
    owned_by: str
    modality: Modality


@dataclass(frozen=True, slots=True)
class ModelList:
    object: Literal["list"]
    data: list[ModelEntry]


def router(settings: Settings, registry: Registry) -> APIRouter:
    routes = APIRouter(prefix="/v1/models", tags=["models"])
    created = int(settings.models_file.stat().st_mtime)

    def entry(model: Model) -> ModelEntry:
        return ModelEntry(model.slug, "model", created, model.repo.partition("/")[0], model.modality)

    @routes.get("")
    async def list_models() -> ModelList:
        """The served models; `modality` is "asr" or "tts"."""
        return ModelList("list", [entry(model) for model in registry.values()])

    @routes.get("/{model_id:path}", responses=openapi.responses(404, 422))
    async def get_model(model_id: str) -> ModelEntry:
        """One model; a slash in the id may come as %2F."""
        return entry(registry.find(model_id))

    return routes
