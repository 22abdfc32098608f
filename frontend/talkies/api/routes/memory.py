"""What is in memory: GET /api/ps, DELETE /api/ps/{slug}, POST /unload."""

from __future__ import annotations

from fastapi import APIRouter, Request

from talkies.api import openapi
from talkies.api.disconnect import while_connected
from talkies.api.services import Services
from talkies.engines.loader import Resident


def router(services: Services) -> APIRouter:
    residency = services.residency
    routes = APIRouter(tags=["resources"])

    @routes.get("/api/ps", responses=openapi.responses(503))
    async def ps() -> dict[str, list[Resident]]:
        """The loaded models, the seconds since their last use and their running requests."""
        return {"models": await residency.ps()}

    @routes.delete("/api/ps/{model_id:path}", responses=openapi.responses(404, 422, 503, 504))
    async def evict(request: Request, model_id: str) -> dict[str, list[str]]:
        """Unload one model once its running requests are done; 404 when it is not loaded."""
        slug = services.registry.find(model_id).slug
        await while_connected(request, residency.evict(slug))
        return {"unloaded": [slug]}

    @routes.post("/unload", responses=openapi.responses(503, 504))
    async def unload(request: Request) -> dict[str, list[str]]:
        """Unload every loaded model once its running requests are done; the slugs that were loaded."""
        return {"unloaded": await while_connected(request, residency.unload_all())}

    return routes
