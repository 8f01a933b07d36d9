"""Structured logs: one JSON object a line. What is logged is chosen field by field: no bodies, no tokens."""

import json
import logging
import sys
import time
from datetime import UTC, datetime
from typing import TextIO

from aiohttp import web
from aiohttp.typedefs import Middleware

from chiron.api.metrics import Metrics
from chiron.api.problems import Handler

_LOG = logging.getLogger(__name__)
_STANDARD = frozenset(logging.makeLogRecord({}).__dict__) | {"message", "asctime", "taskName"}


class JsonFormatter(logging.Formatter):
    """Time, level, logger, message and the record's `extra` fields; never an exception's own text."""

    def format(self, record: logging.LogRecord) -> str:
        """One line."""
        line = {
            "at": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        line |= {key: value for key, value in record.__dict__.items() if key not in _STANDARD}
        if record.exc_info and record.exc_info[0]:
            line["error"] = record.exc_info[0].__qualname__
        return json.dumps(line, default=str, ensure_ascii=False)


def configure_logs(stream: TextIO | None = None, level: int = logging.INFO) -> None:
    """Log as JSON to `stream` (standard error by default)."""
    handler = logging.StreamHandler(stream or sys.stderr)
    handler.setFormatter(JsonFormatter())
    logging.basicConfig(level=level, handlers=[handler], force=True)
    # At DEBUG it logs every statement's parameters.
    logging.getLogger("aiosqlite").setLevel(logging.WARNING)


def watch_requests(api: str, metrics: Metrics) -> Middleware:
    """Middleware that counts, times and logs each request by its route's pattern."""

    @web.middleware
    async def watch(request: web.Request, handler: Handler) -> web.StreamResponse:
        start = time.perf_counter()
        resource = request.match_info.route.resource
        route = f"{request.method} {resource.canonical}" if resource else "unmatched"
        status = 499
        try:
            response = await handler(request)
            status = response.status
            return response
        finally:
            seconds = time.perf_counter() - start
            metrics.requests.labels(api, route, str(status)).inc()
            metrics.seconds.labels(api, route).observe(seconds)
            fields = {"api": api, "route": route, "status": status, "ms": round(seconds * 1000, 1)}
            _LOG.debug("request", extra=fields)

    return watch
