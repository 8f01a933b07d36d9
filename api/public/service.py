"""/healthz, /metrics, /openapi.json."""

from aiohttp import web

from chiron.api.metrics import METRICS_CONTENT_TYPE
from chiron.api.operations import Call, Routes
from chiron.wire import paths
from chiron.wire.public_api import Health

routes = Routes()


@routes.add("GET", paths.HEALTH, answer=Health)
async def health(_call: Call[None, None]) -> Health:
    """Say that the gateway answers."""
    return Health()


@routes.add("GET", paths.METRICS, answer="text/plain")
async def metrics(call: Call[None, None]) -> web.StreamResponse:
    """Counters for Prometheus."""
    body = call.gateway.metrics.exposition()
    return web.Response(body=body, headers={"Content-Type": METRICS_CONTENT_TYPE})


@routes.add("GET", paths.OPENAPI, answer="application/json")
async def openapi(call: Call[None, None]) -> web.StreamResponse:
    """This interface as OpenAPI 3.1."""
    return web.json_response(body=call.gateway.openapi)
