"""GET /healthz."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter

from talkies.registry import Registry


def router(registry: Registry, device: str) -> APIRouter:
    routes = APIRouter(tags=["health"])

    @routes.get("/healthz")
    async def healthz() -> dict[str, Any]:
        """Whether the service answers, the device its models run on, and the slugs it serves."""
        return {"ok": True, "device": device, "models": list(registry)}

    return routes
