"""Every error leaves as problem+json (RFC 9457) with a stable code, and none leaks what went wrong inside."""

import logging
import traceback
from collections.abc import Awaitable, Callable
from math import ceil

from aiohttp import web

from chiron.api.errors import (
    ApiError,
    BodyTooLarge,
    DatasetIncomplete,
    MethodNotAllowed,
    Overloaded,
    RequestInvalid,
    RouteUnknown,
    Unauthenticated,
)
from chiron.wire.answers import problem_response
from chiron.wire.codes import Problem

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
STARTED = web.RequestKey("answer_started", bool)
"""Set on a request whose answer is being streamed: it is too late for a problem."""
_LOG = logging.getLogger(__name__)
_MISSING_SHOWN = 1000
_FRAMES_LOGGED = 12


@web.middleware
async def problems(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Turn whatever a handler raises into a problem."""
    try:
        return await handler(request)
    except ConnectionError:
        return _hang_up(request)
    except Exception as error:
        if request.get(STARTED):
            if not isinstance(error, Unauthenticated):
                log_unexpected(error, path=_path(request))
            return _hang_up(request)
        return _problem(request, error)


def _problem(request: web.Request, error: Exception) -> web.StreamResponse:
    if isinstance(error, ApiError):
        if error.status == 500:
            _LOG.warning("failed", extra={"code": error.code, "path": _path(request)})
        return respond(error)
    if isinstance(error, web.HTTPException):
        return _translated(error)
    log_unexpected(error, path=_path(request))
    return respond(ApiError("unexpected; the gateway's log says more"))


def _hang_up(request: web.Request) -> web.StreamResponse:
    """Half an answer is out, or nobody is there to read one: a second answer must not follow it."""
    if request.transport is not None:
        request.transport.abort()
    return web.Response(status=499)


def respond(error: ApiError) -> web.Response:
    """The answer that says `error`."""
    problem = Problem(
        title=error.title,
        status=error.status,
        detail=str(error)[:2000],
        code=error.code,
        missing=error.missing[:_MISSING_SHOWN] if isinstance(error, DatasetIncomplete) else None,
    )
    response = problem_response(problem)
    if isinstance(error, Unauthenticated):
        response.headers["WWW-Authenticate"] = 'Bearer realm="chiron"'
    if isinstance(error, Overloaded):
        response.headers["Retry-After"] = str(ceil(error.retry_after_s))
    if isinstance(error, BodyTooLarge):
        response.force_close()
    return response


def log_unexpected(error: BaseException, **facts: object) -> None:
    """Log where it happened and its type; never its message, which may quote what a caller sent."""
    frames = traceback.extract_tb(error.__traceback__)[-_FRAMES_LOGGED:]
    where = [f"{frame.filename}:{frame.lineno} {frame.name}" for frame in frames]
    _LOG.error("unexpected", extra={"error": type(error).__qualname__, "where": where, **facts})


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
    return respond(ApiError("unexpected"))


def _path(request: web.Request) -> str:
    """The route's pattern: ids stay out of the logs' cardinality, and hostile paths out of the logs."""
    resource = request.match_info.route.resource
    return resource.canonical if resource else "unmatched"
