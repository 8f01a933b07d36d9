"""The two aiohttp applications: the public API, and the one that enclaves speak to."""

from aiohttp import web

from chiron.api.enclaves import callers as enclave_callers
from chiron.api.enclaves import content, mail
from chiron.api.gateway import Gateway
from chiron.api.logs import watch_requests
from chiron.api.openapi import document
from chiron.api.operations import bind
from chiron.api.problems import problems
from chiron.api.public import builders, callers, datasets, events, jobs, relay, service, upgrades

PUBLIC = [
    operation
    for module in (builders, datasets, jobs, events, relay, upgrades, service)
    for operation in module.routes.operations
]
ENCLAVE = [*mail.routes.operations, *content.routes.operations]


def public_application(gateway: Gateway) -> web.Application:
    """`/v1/…`, `/healthz`, `/metrics`, `/openapi.json`."""
    gateway.openapi = document(PUBLIC)
    app = web.Application(middlewares=[watch_requests("public", gateway.metrics), problems])
    bind(app, gateway, PUBLIC, callers.authenticate)
    return app


def enclave_application(gateway: Gateway) -> web.Application:
    """`/enclave/v1/…`."""
    app = web.Application(middlewares=[watch_requests("enclave", gateway.metrics), problems])
    bind(app, gateway, ENCLAVE, enclave_callers.authenticate)
    return app
