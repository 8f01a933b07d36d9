"""/healthz, /metrics, /openapi.json."""

from aiohttp import web

from chiron.api.metrics import METRICS_CONTENT_TYPE
from chiron.api.operations import Call, Routes
from chiron.wire.public_api import Health

routes = Routes()


@routes.add("GET", "/healthz", answer=Health)
async def health(_call: Call[None, None]) -> Health:
    """Say that the gateway answers."""
    return Health()


@routes.add("GET", "/metrics", answer="text/plain")
async def metrics(call: Call[None, None]) -> web.StreamResponse:
    """Counters for Prometheus."""
    body = call.gateway.metrics.exposition()
    return web.Response(body=body, headers={"Content-Type": METRICS_CONTENT_TYPE})


@routes.add("GET", "/openapi.json", answer="application/json")
async def openapi(call: Call[None, None]) -> web.StreamResponse:
    """This interface as OpenAPI 3.1."""
    return web.json_response(body=call.gateway.openapi)
