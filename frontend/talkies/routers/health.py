"""GET /healthz."""

from __future__ import annotations

from dataclasses import dataclass

from fastapi import APIRouter

from talkies.registry import Registry
from talkies.residency import Residency


@dataclass(frozen=True, slots=True)
class Health:
    ok: bool
    device: str
    models: list[str]


def router(registry: Registry, residency: Residency, device: str) -> APIRouter:
    routes = APIRouter(tags=["health"])

    @routes.get("/healthz")
    async def healthz() -> Health:
        """The device that the models run on, and the slugs; `ok` is false while tritonserver does not answer.

        That is no error, for talkies restarts it by itself, and requests wait for it: killing talkies would not help.
        """
        return Health(await residency.ready(), device, list(registry))

    return routes
