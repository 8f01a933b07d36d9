"""What every HTTP server of ours answers: a message in JSON, or a problem (RFC 9457)."""

from aiohttp import web
from pydantic import BaseModel

from chiron.wire.codes import PROBLEM_CONTENT_TYPE, Problem


def json_response(message: BaseModel, status: int = 200) -> web.Response:
    """`message` as JSON."""
    body = message.model_dump_json().encode()
    return web.Response(status=status, body=body, content_type="application/json")


def problem_response(problem: Problem) -> web.Response:
    """`problem` with its status."""
    body = problem.model_dump_json(exclude_none=True).encode()
    return web.Response(status=problem.status, body=body, content_type=PROBLEM_CONTENT_TYPE)


def refusal(status: int, code: str) -> web.Response:
    """A problem that says no more than its code."""
    return problem_response(Problem(title="refused", status=status, code=code))
