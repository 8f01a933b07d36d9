"""What a job's enclaves sealed to its owner: one report an exchange, and how it really ended."""

from chiron.client.errors import ReportUnreadable
from chiron.client.gateway import GatewaySession
from chiron.client.store import JobRecord
from chiron.runtime.errors import OpenFailed
from chiron.runtime.reports import open_outcome, open_report
from chiron.wire import objects
from chiron.wire.objects import StoredObject
from chiron.wire.reports import Outcome, TrainingReport


async def fetch_reports(gateway: GatewaySession, record: JobRecord) -> list[TrainingReport]:
    """The decrypted reports so far, in order.

    Raises:
        ReportUnreadable: one is not sealed to us as the report that it is stored as.
    """
    job, key = record.spec.job, record.private_key
    listed = {info.name for info in await gateway.objects(job)}
    reports = []
    for exchange in range(record.spec.exchange.exchanges):
        stored = objects.report(exchange)
        if stored.name in listed:
            sealed = await _fetch(gateway, job, stored)
            try:
                reports.append(open_report(sealed, exchange, job=job, owner_key=key))
            except OpenFailed as error:
                raise ReportUnreadable(f"{stored.name} is not a report of this job for us") from error
    return reports


async def fetch_outcome(gateway: GatewaySession, record: JobRecord) -> Outcome:
    """How the job really ended.

    Raises:
        ReportUnreadable: what is stored is not sealed to us for this job.
    """
    sealed = await _fetch(gateway, record.spec.job, objects.outcome())
    try:
        return open_outcome(sealed, job=record.spec.job, owner_key=record.private_key)
    except OpenFailed as error:
        raise ReportUnreadable("the stored outcome is not this job's, for us") from error


async def _fetch(gateway: GatewaySession, job: str, stored: StoredObject) -> bytes:
    return await gateway.fetch(f"/v1/jobs/{job}/objects/{stored.name}", limit=stored.stored_bytes)
