"""TCB info (version 3) and QE identity (version 2) of the development TEE, signed as Intel signs them."""

import datetime
import json

from chiron.api.software_tee.pki import CPU_SVN, CRL_VALIDITY, FMSPC, PCE_ID, PCE_SVN, Authority, create_crl
from chiron.api.software_tee.quote import QE_MRSIGNER, QE_PRODUCT_ID, QE_SVN, raw_signature


def create_collateral(
    root: Authority,
    platform_ca: Authority,
    tcb_signing: Authority,
    pck_chain_pem: bytes,
    now: datetime.datetime,
) -> dict[str, str]:
    """Collateral valid from `now` for `CRL_VALIDITY`, as dcap-qvl's `QuoteCollateralV3` JSON names it."""
    tcb_info = _compact(_tcb_info(now))
    qe_identity = _compact(_qe_identity(now))
    signing_chain = (tcb_signing.pem + root.pem).decode()
    return {
        "pck_crl_issuer_chain": (platform_ca.pem + root.pem).decode(),
        "root_ca_crl": create_crl(root, now).hex(),
        "pck_crl": create_crl(platform_ca, now).hex(),
        "tcb_info_issuer_chain": signing_chain,
        "tcb_info": tcb_info,
        "tcb_info_signature": raw_signature(tcb_signing.key, tcb_info.encode()).hex(),
        "qe_identity_issuer_chain": signing_chain,
        "qe_identity": qe_identity,
        "qe_identity_signature": raw_signature(tcb_signing.key, qe_identity.encode()).hex(),
        "pck_certificate_chain": pck_chain_pem.decode(),
    }


def _tcb_info(now: datetime.datetime) -> dict[str, object]:
    components = [{"svn": svn} for svn in CPU_SVN]
    return {
        "id": "SGX",
        "version": 3,
        **_period(now),
        "fmspc": FMSPC.hex(),
        "pceId": PCE_ID.hex(),
        "tcbType": 0,
        "tcbEvaluationDataNumber": 17,
        "tcbLevels": [
            {
                "tcb": {"sgxtcbcomponents": components, "pcesvn": PCE_SVN},
                "tcbDate": "2024-03-13T00:00:00Z",
                "tcbStatus": "UpToDate",
            },
            {
                "tcb": {"sgxtcbcomponents": [{"svn": 0}] * 16, "pcesvn": 0},
                "tcbDate": "2020-01-01T00:00:00Z",
                "tcbStatus": "OutOfDate",
            },
        ],
    }


def _qe_identity(now: datetime.datetime) -> dict[str, object]:
    return {
        "id": "QE",
        "version": 2,
        **_period(now),
        "tcbEvaluationDataNumber": 17,
        "miscselect": "00000000",
        "miscselectMask": "FFFFFFFF",
        "attributes": "05000000000000000000000000000000",
        "attributesMask": "FBFFFFFFFFFFFFFF0000000000000000",
        "mrsigner": QE_MRSIGNER.hex().upper(),
        "isvprodid": QE_PRODUCT_ID,
        "tcbLevels": [
            {"tcb": {"isvsvn": QE_SVN}, "tcbDate": "2024-03-13T00:00:00Z", "tcbStatus": "UpToDate"},
            {"tcb": {"isvsvn": 1}, "tcbDate": "2020-01-01T00:00:00Z", "tcbStatus": "OutOfDate"},
        ],
    }


def _period(now: datetime.datetime) -> dict[str, str]:
    return {"issueDate": _rfc3339(now), "nextUpdate": _rfc3339(now + CRL_VALIDITY)}


def _rfc3339(moment: datetime.datetime) -> str:
    return moment.astimezone(datetime.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _compact(value: object) -> str:
    return json.dumps(value, separators=(",", ":"))
