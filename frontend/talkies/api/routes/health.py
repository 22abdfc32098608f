"""GET /healthz."""

from __future__ import annotations

from dataclasses import dataclass

from fastapi import APIRouter

from talkies.api.services import Services


@dataclass(frozen=True, slots=True)
class Health:
    ok: bool
    device: str
    models: list[str]
    problem: str = ""
    """What is wrong; empty while `ok`."""


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

    return routes
