"""One operation of an HTTP interface: who may call it, what it takes and gives. The one table from which both
the routes and `/openapi.json` are made, so that neither can say what the other does not."""

from collections.abc import Awaitable, Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from aiohttp import web
from pydantic import BaseModel

from chiron.api.bodies import JSON_CONTENT_TYPE, parse_json, read_body, refuse_announced, sent
from chiron.api.errors import Forbidden, Unauthenticated
from chiron.api.paging import PageRequest, page_request
from chiron.api.quotas import Held
from chiron.api.settings import Limits
from chiron.wire.answers import json_response
from chiron.wire.doors import keep
from chiron.wire.paths import Path

if TYPE_CHECKING:
    from chiron.api.gateway import Gateway

Caller = TypeVar("Caller")
Body = TypeVar("Body")
Answer = BaseModel | Sequence[BaseModel] | web.StreamResponse | None
Limit = Callable[[Limits], int]
BEARER = "Bearer "
MAX_CREDENTIAL_CHARACTERS = 200


@dataclass(frozen=True)
class Call(Generic[Caller, Body]):
    """One authenticated request with its parsed body."""

    gateway: "Gateway"
    request: web.Request
    caller: Caller
    body: Body
    held: Held
    """What the request keeps in memory."""

    def page(self) -> PageRequest:
        """Which page of a list is wanted; raises `RequestInvalid`."""
        return page_request(self.request, self.gateway.settings.limits)

    def path(self, name: str) -> str:
        """A variable of the path; its pattern was checked by the router."""
        return self.request.match_info[name]


@dataclass(frozen=True)
class Operation:
    """A row of the route table."""

    method: str
    path: Path
    handler: Callable[[Call[Any, Any]], Awaitable[Answer]]
    summary: str
    roles: frozenset[str]
    """Roles that may call it; empty: nobody needs a key."""
    body: type[BaseModel] | None
    """JSON body; None where there is none, or where the handler streams it."""
    streams: str | None
    """Content type of a body that the handler reads itself."""
    answer: Any
    """Pydantic model or list of it; a content type for other bytes; None for no content."""
    status: int
    limit: Limit


class Routes:
    """Operations, collected by decorators in the order of the source."""

    def __init__(self) -> None:
        self.operations: list[Operation] = []

    def add(
        self,
        method: str,
        path: Path,
        *,
        roles: frozenset[Any] = frozenset(),
        body: type[BaseModel] | None = None,
        streams: str | None = None,
        answer: Any = None,
        status: int | None = None,
        limit: Limit = lambda limits: limits.json_bytes,
    ) -> Callable[
        [Callable[[Call[Any, Any]], Awaitable[Answer]]], Callable[[Call[Any, Any]], Awaitable[Answer]]
    ]:
        """Register the decorated handler; the first line of its docstring is the operation's summary."""

        def register(
            handler: Callable[[Call[Any, Any]], Awaitable[Answer]],
        ) -> Callable[[Call[Any, Any]], Awaitable[Answer]]:
            summary = (handler.__doc__ or handler.__name__).strip().splitlines()[0]
            final = status or (204 if answer is None else 200)
            self.operations.append(
                Operation(method, path, handler, summary, roles, body, streams, answer, final, limit)
            )
            return handler

        return register


Authenticate = Callable[["Gateway", web.Request], Awaitable[Any]]
"""Who makes a request; the caller has a `role`. Raises `Unauthenticated`."""
Hold = Callable[[Any], AbstractContextManager[Held]]
"""Counts what a caller's request keeps in memory."""


def _hold_uncounted(_caller: Any) -> AbstractContextManager[Held]:
    return nullcontext(Held(lambda _size: None))


def bind(
    app: web.Application,
    gateway: "Gateway",
    operations: Sequence[Operation],
    authenticate: Authenticate,
    hold: Hold = _hold_uncounted,
) -> None:
    """Serve `operations`: authenticate, authorise, bound and parse, then hand over."""
    for operation in operations:
        handler = _bound(gateway, operation, authenticate, hold if operation.roles else _hold_uncounted)
        app.router.add_route(operation.method, operation.path, handler)


def _bound(
    gateway: "Gateway", operation: Operation, authenticate: Authenticate, hold: Hold
) -> Callable[[web.Request], Awaitable[web.StreamResponse]]:
    settings = gateway.settings

    async def handle(request: web.Request) -> web.StreamResponse:
        caller = None
        if operation.roles:
            caller = await authenticate(gateway, request)
            if caller.role not in operation.roles:
                raise Forbidden(f"this needs a key of the role {' or '.join(sorted(operation.roles))}")
            keep(request)
        limit = operation.limit(settings.limits)
        refuse_announced(request, limit)
        with hold(caller) as held:
            body = None
            if operation.body is not None:
                content = await read_body(request, limit, settings.timing.body_s, held.add)
                body = parse_json(operation.body, content)
            answer = render(
                await operation.handler(Call(gateway, request, caller, body, held)), operation.status
            )
            # Sent here, where it is large, as it counts until its reader has it.
            return await sent(request, answer)

    return handle


def credential(request: web.Request) -> str:
    """What follows `Bearer`.

    Raises:
        Unauthenticated: there is no such header.
    """
    header = request.headers.get("Authorization", "")
    if not header.startswith(BEARER) or len(header) > MAX_CREDENTIAL_CHARACTERS:
        raise Unauthenticated("send the key as 'Authorization: Bearer …'")
    return header.removeprefix(BEARER).strip()


def render(answer: Answer, status: int) -> web.StreamResponse:
    """A handler's result as HTTP."""
    if isinstance(answer, web.StreamResponse):
        return answer
    if answer is None:
        return web.Response(status=204)
    if isinstance(answer, BaseModel):
        return json_response(answer, status)
    body = b"[" + b",".join(item.model_dump_json().encode() for item in answer) + b"]"
    return web.Response(status=status, body=body, content_type=JSON_CONTENT_TYPE)
