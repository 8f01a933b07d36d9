"""Steps 3 to 9 once more, by Phala's dcap-qvl (audited, Rust): nothing passes without it.

Our own steps say precisely what is wrong; this library, written by others, must agree that nothing is. And it
must have read the same: otherwise a fault in one reader is enough to pass off other code, keys or machines.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass, fields
from datetime import datetime
from typing import Any

import dcap_qvl

from chiron.runtime.attestation.pck import SGX_EXTENSION, Platform, SgxType
from chiron.runtime.attestation.quote import Header, Report, SgxQuote
from chiron.runtime.attestation.tcb import TcbVerdict
from chiron.wire.attestation import Collateral, TcbStatus

Found = tuple[TcbStatus, tuple[str, ...]]
"""A TCB status, and the advisories that are open, sorted."""


@dataclass(frozen=True)
class Reading:
    """All that dcap-qvl read of evidence that it accepts."""

    header: Header
    report: Report
    platform: Platform
    tcb: Found
    platform_tcb: Found
    quoting_enclave_tcb: Found


@dataclass(frozen=True)
class Opinion:
    """What dcap-qvl found: a reading, or the reason why it refuses."""

    reading: Reading | None = None
    refusal: str = ""


def second_opinion(quote: bytes, collateral: Collateral, root: bytes, at: datetime) -> Opinion:
    """Verify with dcap-qvl under `root` (DER) at the time `at`."""
    try:
        parsed = dcap_qvl.QuoteCollateralV3.from_json(collateral.model_dump_json(exclude_none=True))
        verified = json.loads(
            dcap_qvl.verify_with_root_ca(quote, parsed, root, int(at.timestamp())).to_json()
        )
        reading = Reading(
            header=_header(dcap_qvl.parse_quote(quote).header),
            report=_report(verified["report"]["SgxEnclave"]),
            platform=_platform(dcap_qvl.parse_quote(quote).pck_extension(), verified["ppid"]),
            tcb=_found(verified),
            platform_tcb=_found(verified["platform_status"]),
            quoting_enclave_tcb=_found(verified["qe_status"]),
        )
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        return Opinion(refusal=" ".join(str(error).split())[:300] or type(error).__name__)
    return Opinion(reading)


def difference(reading: Reading, quote: SgxQuote, platform: Platform) -> str | None:
    """What of a quote and its PCK certificate dcap-qvl read otherwise than we; None where all is the same."""
    pairs = ((reading.header, quote.header), (reading.report, quote.report), (reading.platform, platform))
    return next((name for theirs, ours in pairs for name in _differing(theirs, ours)), None)


def tcb_difference(reading: Reading, verdict: TcbVerdict) -> str | None:
    """What of the platform's patch level dcap-qvl judges otherwise than we; None where all is the same."""
    platform, enclave = verdict.platform, verdict.quoting_enclave
    ours = {
        "TCB": (verdict.status, verdict.advisories),
        "platform's TCB": (platform.status, tuple(sorted(set(platform.advisories)))),
        "quoting enclave's TCB": (enclave.status, tuple(sorted(set(enclave.advisories)))),
    }
    theirs = (reading.tcb, reading.platform_tcb, reading.quoting_enclave_tcb)
    for (name, here), there in zip(ours.items(), theirs, strict=True):
        if here != there:
            return f"{name}: {here[0]} here, {there[0]} to dcap-qvl; or other advisories"
    return None


def _differing(theirs: Header | Report | Platform, ours: Header | Report | Platform) -> Iterator[str]:
    for field in fields(ours):
        if getattr(theirs, field.name) != getattr(ours, field.name):
            yield field.name


def _header(header: "dcap_qvl.QuoteHeader") -> Header:
    return Header(
        version=header.version,
        key_type=header.attestation_key_type,
        tee_type=header.tee_type,
        qe_svn=header.qe_svn,
        pce_svn=header.pce_svn,
        vendor=bytes(header.qe_vendor_id),
        user_data=bytes(header.user_data),
    )


def _report(told: dict[str, Any]) -> Report:
    """The report as the library tells it, put together anew: reserved bytes are compared, too."""
    part = {name: bytes.fromhex(value) for name, value in told.items() if isinstance(value, str)}
    misc, product, svn = told["misc_select"], told["isv_prod_id"], told["isv_svn"]
    raw = (
        part["cpu_svn"] + misc.to_bytes(4, "little") + part["reserved1"] + part["attributes"]
        + part["mr_enclave"] + part["reserved2"] + part["mr_signer"] + part["reserved3"]
        + product.to_bytes(2, "little") + svn.to_bytes(2, "little") + part["reserved4"] + part["report_data"]
    )  # fmt: skip
    return Report(
        raw=raw,
        cpu_svn=part["cpu_svn"],
        misc_select=misc,
        attributes=part["attributes"],
        measurement=part["mr_enclave"],
        signer=part["mr_signer"],
        product_id=product,
        svn=svn,
        report_data=part["report_data"],
    )


def _platform(facts: "dcap_qvl.PckExtension", ppid: str) -> Platform:
    if bytes(facts.ppid) != bytes.fromhex(ppid):
        raise ValueError("two PPIDs")
    instance = facts.platform_instance_id
    return Platform(
        ppid=bytes(facts.ppid),
        components=tuple(_value(facts, f"2.{place}")[-1] for place in range(1, 17)),
        cpu_svn=bytes(facts.cpu_svn),
        pce_svn=facts.pce_svn,
        pce_id=bytes(facts.pce_id),
        fmspc=bytes(facts.fmspc),
        sgx_type=SgxType(facts.sgx_type),
        instance_id=None if instance is None else bytes(instance),
        dynamic_platform=_flag(facts, "7.1"),
        cached_keys=_flag(facts, "7.2"),
        smt=_flag(facts, "7.3"),
    )


def _value(facts: "dcap_qvl.PckExtension", name: str) -> bytes:
    return bytes(facts.get_value(f"{SGX_EXTENSION.dotted_string}.{name}"))


def _flag(facts: "dcap_qvl.PckExtension", name: str) -> bool | None:
    value = facts.get_value(f"{SGX_EXTENSION.dotted_string}.{name}")
    return None if value is None else any(value)


def _found(told: dict[str, Any]) -> Found:
    return TcbStatus(told["status"]), tuple(sorted(set(told["advisory_ids"])))
