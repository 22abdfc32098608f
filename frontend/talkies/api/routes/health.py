"""GET /healthz and GET /readyz."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from fastapi import APIRouter

from talkies.api import openapi
from talkies.api.services import Services
from talkies.errors import NotLoaded, Unavailable


@dataclass(frozen=True, slots=True)
class Health:
    ok: bool
    device: str
    models: list[str]
    problem: str = ""
    """What is wrong; empty while `ok`."""


@dataclass(frozen=True, slots=True)
class Readiness:
    ready: Literal[True]


def router(services: Services) -> APIRouter:
    routes = APIRouter(tags=["health"])

    @routes.get("/healthz", response_model_exclude_defaults=True)
    async def healthz() -> Health:
        """The devices that the models run on, and the slugs; `ok` is false while requests cannot be done.

        That is no error, for talkies mends it by itself, and requests wait for it: killing talkies would not help.
        """
        problem = await services.residency.problem()
        devices = ", ".join(services.residency.devices())
        return Health(not problem, devices, list(services.registry), problem)

    @routes.get("/readyz", responses=openapi.responses(404, 422, 503))
    async def readyz(model: str = "") -> Readiness:
        """For a balancer: 200 while requests are better sent here than elsewhere. 503 while talkies stops and while
        requests cannot be done; with a `model`, also while that one is not in memory."""
        if services.draining.is_set():
            raise Unavailable("talkies stops; send requests elsewhere.")
        wanted = services.registry.find(model) if model else None
        if problem := await services.residency.problem():
            raise Unavailable(f"Not ready: {problem}.")
        if wanted and not await services.residency.holds(wanted):
            raise NotLoaded(f"{wanted.slug} is not in memory.")
        return Readiness(ready=True)

    return routes
