"""GET /metrics."""

from __future__ import annotations

from fastapi import APIRouter
from prometheus_client.exposition import choose_encoder
from starlette.requests import Request
from starlette.responses import Response

from talkies.api.services import Services


def router(services: Services) -> APIRouter:
    routes = APIRouter(tags=["health"])

    @routes.get("/metrics", response_class=Response, responses={200: {"content": {"text/plain": {}}}})
    async def show(request: Request) -> Response:
        """The facade's own metrics, for Prometheus; tritonserver's are on TALKIES_METRICS_PORT."""
        await services.residency.count()
        encode, content_type = choose_encoder(request.headers.get("accept", ""))
        return Response(encode(services.metrics.registry), headers={"content-type": content_type})

    return routes
