"""Steps 3 to 9 once more, by Phala's dcap-qvl (audited, Rust): nothing passes without it.

Our own steps say precisely what is wrong; this library, written by others, must agree that nothing is.
"""

import json
from dataclasses import dataclass
from datetime import datetime

import dcap_qvl

from chiron.wire.attestation import Collateral, TcbStatus


@dataclass(frozen=True)
class Opinion:
    """What dcap-qvl found; `refusal` is its reason where it refuses, and then nothing else is set."""

    refusal: str | None = None
    status: TcbStatus | None = None
    advisories: tuple[str, ...] = ()
    measurement: str = ""
    signer: str = ""
    report_data: bytes = b""


def second_opinion(quote: bytes, collateral: Collateral, root: bytes, at: datetime) -> Opinion:
    """Verify with dcap-qvl under `root` (DER) at the time `at`."""
    try:
        parsed = dcap_qvl.QuoteCollateralV3.from_json(collateral.model_dump_json(exclude_none=True))
        verified = json.loads(
            dcap_qvl.verify_with_root_ca(quote, parsed, root, int(at.timestamp())).to_json()
        )
        report = verified["report"]["SgxEnclave"]
        return Opinion(
            status=TcbStatus(verified["status"]),
            advisories=tuple(sorted(verified["advisory_ids"])),
            measurement=report["mr_enclave"],
            signer=report["mr_signer"],
            report_data=bytes.fromhex(report["report_data"]),
        )
    except (ValueError, KeyError) as error:
        return Opinion(refusal=" ".join(str(error).split())[:300] or type(error).__name__)
