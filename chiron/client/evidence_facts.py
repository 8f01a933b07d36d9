"""All that evidence says of an enclave and its machine, read out without verifying any of it."""

from dataclasses import dataclass

from pydantic import ValidationError

from chiron.client.errors import EvidenceRejected
from chiron.runtime.attestation.chains import parse_chain
from chiron.runtime.attestation.collateral import QeIdentity, TcbInfo
from chiron.runtime.attestation.pck import Platform, read_platform
from chiron.runtime.attestation.quote import SgxQuote
from chiron.runtime.attestation.steps import StepFailed
from chiron.runtime.attestation.tcb import TcbVerdict, match
from chiron.runtime.errors import QuoteMalformed
from chiron.wire.attestation import Evidence


@dataclass(frozen=True)
class EvidenceFacts:
    """What evidence says. Whoever made it may have made it up: `verify_job` is what verifies."""

    evidence: Evidence
    quote: SgxQuote
    platform: Platform
    tcb: TcbVerdict | None
    """The patch levels that the collateral grants the machine; None where it grants none."""

    @property
    def named(self) -> dict[str, str | int | bool | None]:
        """The facts by name, as `chiron attest show --json` prints them; bytes are hexadecimal."""
        report, platform, claims = self.quote.report, self.platform, self.evidence.claims
        instance = platform.instance_id
        return {
            "role": claims.role.value,
            "job": claims.job,
            "nonce": claims.nonce.hex(),
            "model_owner": claims.owner_key_sha256,
            "measurement": report.measurement.hex(),
            "signer": report.signer.hex(),
            "product_id": report.product_id,
            "svn": report.svn,
            "attributes": report.attributes.hex(),
            "misc_select": report.misc_select,
            "tcb_status": self.tcb.status.value if self.tcb else None,
            "advisories": ", ".join(self.tcb.advisories) if self.tcb else None,
            "cpu_svn": platform.cpu_svn.hex(),
            "pce_svn": platform.pce_svn,
            "fmspc": platform.fmspc.hex(),
            "ppid": platform.ppid.hex(),
            "instance_id": None if instance is None else instance.hex(),
            "memory": platform.sgx_type.name.lower().replace("_", " "),
            "smt": platform.smt,
            "dynamic_platform": platform.dynamic_platform,
            "cached_keys": platform.cached_keys,
        }


def read_facts(evidence: Evidence) -> EvidenceFacts:
    """Read evidence out. Nothing is verified.

    Raises:
        EvidenceRejected: it is not an SGX quote with a PCK certificate.
    """
    try:
        quote = SgxQuote.parse(evidence.quote)
        platform = read_platform(parse_chain("PCK", quote.pck_chain.rstrip(b"\0"))[0])
        return EvidenceFacts(evidence, quote, platform, _tcb(evidence, quote, platform))
    except (QuoteMalformed, StepFailed) as error:
        raise EvidenceRejected(f"the evidence cannot be read: {error}", code="evidence-parse") from error


def _tcb(evidence: Evidence, quote: SgxQuote, platform: Platform) -> TcbVerdict | None:
    try:
        info = TcbInfo.model_validate_json(evidence.collateral.tcb_info)
        identity = QeIdentity.model_validate_json(evidence.collateral.qe_identity)
        return match(info, identity, platform, quote.qe_report.svn)
    except (ValidationError, StepFailed):
        return None
