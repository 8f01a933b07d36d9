"""What Prometheus sees: counts, sizes and times. No tenant, job or key is ever a label."""

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.exposition import CONTENT_TYPE_LATEST

METRICS_CONTENT_TYPE = CONTENT_TYPE_LATEST


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
