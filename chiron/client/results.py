"""What a job's enclaves sealed to its owner: one report an exchange, and how it really ended."""

from chiron.client.errors import ReportUnreadable
from chiron.client.gateway import GatewaySession
from chiron.client.store import JobRecord
from chiron.runtime.errors import OpenFailed
from chiron.runtime.reports import open_outcome, open_report
from chiron.wire.reports import OUTCOME_OBJECT, Outcome, TrainingReport

MAX_SEALED_BYTES = 64 * 1024


async def fetch_reports(gateway: GatewaySession, record: JobRecord) -> list[TrainingReport]:
    """The decrypted reports so far, in order.

    Raises:
        ReportUnreadable: one is not sealed to us as the report that it is stored as.
    """
    reports = []
    for info in await gateway.objects(record.spec.job):
        prefix, _, number = info.name.partition("-")
        if prefix == "report" and number.isdigit():
            sealed = await _object(gateway, record, info.name)
            try:
                reports.append(
                    open_report(sealed, int(number), job=record.spec.job, owner_key=record.private_key)
                )
            except OpenFailed as error:
                raise ReportUnreadable(f"{info.name} is not a report of this job for us") from error
    return sorted(reports, key=lambda report: report.exchange)


async def fetch_outcome(gateway: GatewaySession, record: JobRecord) -> Outcome:
    """How the job really ended.

    Raises:
        ReportUnreadable: what is stored is not sealed to us for this job.
    """
    sealed = await _object(gateway, record, OUTCOME_OBJECT)
    try:
        return open_outcome(sealed, job=record.spec.job, owner_key=record.private_key)
    except OpenFailed as error:
        raise ReportUnreadable("the stored outcome is not this job's, for us") from error


async def _object(gateway: GatewaySession, record: JobRecord, name: str) -> bytes:
    return await gateway.fetch(f"/v1/jobs/{record.spec.job}/objects/{name}", limit=MAX_SEALED_BYTES)
