"""GET /v1/models and /v1/models/{id}."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter

from talkies.registry import Model, Registry
from talkies.settings import Settings


def router(settings: Settings, registry: Registry) -> APIRouter:
    routes = APIRouter(prefix="/v1/models", tags=["models"])
    created = int(settings.models_file.stat().st_mtime)

    def entry(model: Model) -> dict[str, Any]:
        return {
            "id": model.slug,
            "object": "model",
            "created": created,
            "owned_by": model.repo.partition("/")[0],
            "modality": model.modality,
        }

    @routes.get("")
    async def list_models() -> dict[str, Any]:
        """The served models; `modality` is "asr" or "tts"."""
        return {"object": "list", "data": [entry(model) for model in registry.values()]}

    @routes.get("/{model_id:path}")
    async def get_model(model_id: str) -> dict[str, Any]:
        """One model; a slash in the id may come as %2F."""
        return entry(registry.find(model_id))

    return routes
