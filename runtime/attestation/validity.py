"""Until when evidence can be verified: the soonest end among the dated parts of its collateral.

It is read as it stands, unverified: an enclave asks this of its own evidence, to make newer in time.
"""

from datetime import datetime

from cryptography import x509

from chiron.runtime.attestation.chains import list_end
from chiron.runtime.attestation.collateral import QeIdentity, TcbInfo
from chiron.runtime.attestation.steps import StepFailed
from chiron.runtime.errors import PlatformUnavailable
from chiron.wire.attestation import Collateral


def current_until(collateral: Collateral) -> datetime:
    """When the first of TCB info, QE identity and the two revocation lists ends (`nextUpdate` of each).

    Raises:
        PlatformUnavailable: the platform gave collateral that cannot be read.
    """
    try:
        return min(
            TcbInfo.model_validate_json(collateral.tcb_info).next_update,
            QeIdentity.model_validate_json(collateral.qe_identity).next_update,
            _list_end("root", collateral.root_ca_crl),
            _list_end("PCK", collateral.pck_crl),
        )
    except (ValueError, StepFailed) as error:
        raise PlatformUnavailable("the platform's collateral cannot be read") from error


def _list_end(name: str, encoded: str) -> datetime:
    return list_end(name, x509.load_der_x509_crl(bytes.fromhex(encoded)))
