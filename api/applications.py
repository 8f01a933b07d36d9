"""The gateway's doors as applications: the public API, the enclaves' own, and the operator's `/metrics`."""

from aiohttp import web

from chiron.api import enclave_door
from chiron.api.errors import JobUnknown, Unauthenticated
from chiron.api.gateway import Gateway
from chiron.api.jobs.fleet import LaunchedEnclave
from chiron.api.keys import Principal
from chiron.api.machines import AskedMachine
from chiron.api.monitoring import METRICS_CONTENT_TYPE, watch_requests
from chiron.api.openapi import document
from chiron.api.operations import Call, Routes, bind, credential
from chiron.api.problems import problems
from chiron.api.public import guests, jobs, messages, uploads
from chiron.wire import paths
from chiron.wire.networks import forwarded_for, network_of
from chiron.wire.public_api import Health

_service = Routes()


@_service.add("GET", paths.HEALTH, answer=Health)
async def health(_call: Call[None, None]) -> Health:
    """Say that the gateway answers."""
    return Health()


@_service.add("GET", paths.OPENAPI, answer="application/json")
async def openapi(call: Call[None, None]) -> web.StreamResponse:
    """This interface as OpenAPI 3.1."""
    call.gateway.rates.take_keyless(_address(call.gateway, call.request))
    return web.json_response(body=call.gateway.openapi)


PUBLIC = [
    operation
    for routes in (uploads.routes, jobs.routes, messages.routes, guests.routes, _service)
    for operation in routes.operations
]
ENCLAVE = enclave_door.routes.operations
ENCLAVE_OF_NO_JOB = enclave_door.of_no_job.operations


def public_application(gateway: Gateway) -> web.Application:
    """`/v1/…`, `/healthz`, `/openapi.json`."""

    async def authenticate(gateway: Gateway, request: web.Request) -> Principal:
        caller = await _known(gateway, request)
        if caller.job is not None and request.match_info.get("id") != caller.job:
            # Here and not in each handler: a guest is nowhere but at paths that name its job.
            raise JobUnknown("you have no job of this id")
        gateway.rates.take(caller)
        return caller

    gateway.openapi = document(PUBLIC)
    app = web.Application(middlewares=[watch_requests("public", gateway.metrics), problems])
    bind(app, gateway, PUBLIC, authenticate, gateway.memory.one_of)
    return app


async def _known(gateway: Gateway, request: web.Request) -> Principal:
    """Whose key the request has.

    Requests without one that holds are counted by address. Where that has had its rate, only keys that were
    good before are looked up: a flood of guesses costs us no more, and keeps nobody out who is in.

    Raises:
        Unauthenticated, TooManyRequests: it has none that holds.
    """
    address = _address(gateway, request)
    try:
        key = credential(request)
        looked_up = not gateway.rates.keyless_spent(address) or gateway.keys.is_known(key)
        if looked_up:
            return await gateway.keys.authenticate(key)
    except Unauthenticated:
        gateway.rates.take_keyless(address)
        raise
    gateway.rates.take_keyless(address)
    raise Unauthenticated("the key is not valid")


def _address(gateway: Gateway, request: web.Request) -> str:
    """Whom a request without a key is counted with."""
    said = request.headers.getall("X-Forwarded-For", [])
    return network_of(forwarded_for(request.remote or "", said, gateway.settings.trusted_proxies))


def enclave_application(gateway: Gateway) -> web.Application:
    """`/enclave/v1/…`."""

    async def authenticate(gateway: Gateway, request: web.Request) -> LaunchedEnclave:
        return gateway.fleet.authenticate(credential(request))

    app = web.Application(middlewares=[watch_requests("enclave", gateway.metrics), problems])
    bind(app, gateway, ENCLAVE, authenticate)

    async def authenticate_machine(gateway: Gateway, request: web.Request) -> AskedMachine:
        return gateway.machines.authenticate(credential(request))

    bind(app, gateway, ENCLAVE_OF_NO_JOB, authenticate_machine)
    return app


def metrics_application(gateway: Gateway) -> web.Application:
    """`/metrics`: counters for Prometheus, at an address that is the operator's own."""

    async def metrics(_request: web.Request) -> web.Response:
        body = gateway.metrics.exposition()
        return web.Response(body=body, headers={"Content-Type": METRICS_CONTENT_TYPE})

    app = web.Application(middlewares=[problems])
    app.router.add_get(paths.METRICS, metrics)
    return app
