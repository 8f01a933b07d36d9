"""What the operator sees of the gateway: logs, one JSON object a line, and counters for Prometheus.

What is logged is chosen field by field: no bodies, no tokens. No tenant, job or key is ever a label.
"""

import json
import logging
import sys
import time
from datetime import UTC, datetime
from typing import TextIO

from aiohttp import web
from aiohttp.typedefs import Middleware
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.exposition import CONTENT_TYPE_LATEST

from chiron.api.problems import Handler

_LOG = logging.getLogger(__name__)
_STANDARD = frozenset(logging.makeLogRecord({}).__dict__) | {"message", "asctime", "taskName"}
METRICS_CONTENT_TYPE = CONTENT_TYPE_LATEST


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
        # ASCII only: whatever a stranger made us log moves no cursor of who reads it.
        return json.dumps(line, default=str)


def configure_logs(stream: TextIO | None = None, level: int = logging.INFO) -> None:
    """Log as JSON to `stream` (standard error by default)."""
    handler = logging.StreamHandler(stream or sys.stderr)
    handler.setFormatter(JsonFormatter())
    logging.basicConfig(level=level, handlers=[handler], force=True)
    # At DEBUG it logs every statement's parameters.
    logging.getLogger("aiosqlite").setLevel(logging.WARNING)


class Metrics:
    """One gateway's counters; a registry of its own, so that several gateways fit in a process."""

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        self.requests = Counter(
            "chiron_http_requests", "Answered requests", ["api", "route", "status"], registry=self._registry
        )
        self.seconds = Histogram(
            "chiron_http_seconds", "Time to answer", ["api", "route"], registry=self._registry
        )
        self.jobs = Counter(
            "chiron_job_transitions", "Jobs that came to a state", ["state"], registry=self._registry
        )
        self.enclaves = Gauge("chiron_enclaves", "Enclaves that run", ["role"], registry=self._registry)
        self.stored_bytes = Counter("chiron_stored_bytes", "Bytes stored", ["kind"], registry=self._registry)
        self.relayed_bytes = Counter(
            "chiron_relayed_bytes", "Sealed bytes relayed", ["kind"], registry=self._registry
        )

    def exposition(self) -> bytes:
        """The text format."""
        return generate_latest(self._registry)


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
