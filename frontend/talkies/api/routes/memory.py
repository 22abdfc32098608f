"""What is in memory: GET /api/ps, DELETE /api/ps/{slug}, POST /unload."""

from __future__ import annotations

from fastapi import APIRouter

from talkies import openapi
from talkies.registry import Registry
from talkies.residency import Residency, Resident


def router(registry: Registry, residency: Residency) -> APIRouter:
    routes = APIRouter(tags=["resources"])

    @routes.get("/api/ps", responses=openapi.responses(503))
    async def ps() -> dict[str, list[Resident]]:
        """The loaded models, the seconds since their last use and their running requests."""
        return {"models": await residency.ps()}

    @routes.delete("/api/ps/{model_id:path}", responses=openapi.responses(404, 422, 503))
    async def evict(model_id: str) -> dict[str, list[str]]:
        """Unload one model once its running requests are done; 404 when it is not loaded."""
        slug = registry.find(model_id).slug
        await residency.evict(slug)
        return {"unloaded": [slug]}

    @routes.post("/unload", responses=openapi.responses(503))
    async def unload() -> dict[str, list[str]]:
        """Unload every loaded model once its running requests are done; the slugs that were loaded."""
        return {"unloaded": await residency.unload_all()}

    return routes
