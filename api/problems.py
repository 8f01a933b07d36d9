"""Every error leaves as problem+json (RFC 9457) with a stable code, and none leaks what went wrong inside."""

import logging
import traceback
from collections.abc import Awaitable, Callable

from aiohttp import web

from api.errors import (
    BodyTooLarge,
    DatasetIncomplete,
    GatewayError,
    MethodNotAllowed,
    RequestInvalid,
    RouteUnknown,
    Unauthenticated,
)
from runtime.wire.problems import PROBLEM_CONTENT_TYPE, Problem

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
_LOG = logging.getLogger(__name__)
_MISSING_SHOWN = 1000


@web.middleware
async def problems(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Turn whatever a handler raises into a problem."""
    try:
        return await handler(request)
    except GatewayError as error:
        if error.status >= 500:
            _LOG.warning("failed", extra={"code": error.code, "path": _path(request)})
        return respond(error)
    except web.HTTPException as error:
        return _translated(error)
    except (ConnectionError, TimeoutError):
        # Nobody is left to answer; aiohttp drops the connection.
        raise
    except Exception as error:
        log_unexpected(error, path=_path(request))
        return respond(GatewayError("unexpected; the gateway's log says more"))


def respond(error: GatewayError) -> web.Response:
    """The answer that says `error`."""
    problem = Problem(
        title=error.title,
        status=error.status,
        detail=str(error)[:2000],
        code=error.code,
        missing=error.missing[:_MISSING_SHOWN] if isinstance(error, DatasetIncomplete) else None,
    )
    body = problem.model_dump_json(exclude_none=True).encode()
    response = web.Response(status=error.status, body=body, content_type=PROBLEM_CONTENT_TYPE)
    if isinstance(error, Unauthenticated):
        response.headers["WWW-Authenticate"] = 'Bearer realm="chiron"'
    if isinstance(error, BodyTooLarge):
        response.force_close()
    return response


def log_unexpected(error: BaseException, **facts: object) -> None:
    """Log where it happened and its type; never its message, which may quote what a caller sent."""
    frames = "".join(traceback.format_tb(error.__traceback__))
    _LOG.error("unexpected", extra={"error": type(error).__qualname__, "where": frames, **facts})


def _translated(error: web.HTTPException) -> web.StreamResponse:
    if error.status < 400:
        return error
    if isinstance(error, web.HTTPMethodNotAllowed):
        response = respond(MethodNotAllowed(f"allowed: {', '.join(sorted(error.allowed_methods))}"))
        response.headers["Allow"] = ", ".join(sorted(error.allowed_methods))
        return response
    if error.status == 404:
        return respond(RouteUnknown("there is no such path"))
    if error.status == 413:
        return respond(BodyTooLarge("the body is too large"))
    if error.status < 500:
        return respond(RequestInvalid("the request is malformed"))
    return respond(GatewayError("unexpected"))


def _path(request: web.Request) -> str:
    """The route's pattern: ids stay out of the logs' cardinality, and hostile paths out of the logs."""
    resource = request.match_info.route.resource
    return resource.canonical if resource else "unmatched"
