"""Which enclaves the owner accepts: built from explicit choices only; nothing is accepted by default."""

from collections.abc import Iterable
from pathlib import Path

from pydantic import ValidationError

from chiron.client.errors import ConfigurationInvalid, PolicyMissing
from chiron.runtime.attestation.policy_file import load_policy, load_root
from chiron.runtime.errors import PolicyInvalid
from chiron.wire.attestation import AttestationPolicy

HOW_TO_GET_A_MEASUREMENT = (
    "Name the enclave code that you accept: --measurement HEX, or --policy FILE. Build the image from the "
    "source you reviewed and run `chiron image measure` to get the measurement; do not take it from the "
    "operator."
)


def policy_of(
    measurements: Iterable[str] = (), *, file: Path | None = None, software_root: Path | None = None
) -> AttestationPolicy:
    """The policy in `file`, or one that accepts these measurements; under Intel's root unless told otherwise.

    Raises:
        PolicyMissing: neither measurements nor a file were given.
        ConfigurationInvalid: a measurement, the file or the root is malformed.
    """
    chosen = frozenset(measurement.lower() for measurement in measurements)
    if not chosen and file is None:
        raise PolicyMissing(HOW_TO_GET_A_MEASUREMENT)
    try:
        policy = load_policy(file) if file else AttestationPolicy(measurements=chosen)
    except (PolicyInvalid, ValidationError) as error:
        raise ConfigurationInvalid(f"the attestation policy cannot be used: {_reason(error)}") from error
    changes: dict[str, object] = {}
    if file and chosen:
        changes["measurements"] = chosen
    if software_root:
        changes["software_root"] = software_root_der(software_root)
    return policy.model_copy(update=changes)


def software_root_der(path: Path) -> bytes:
    """DER of a development TEE's root certificate, from a PEM or DER file.

    Raises:
        ConfigurationInvalid: the file cannot be read or is no certificate.
    """
    try:
        return load_root(path)
    except PolicyInvalid as error:
        raise ConfigurationInvalid(f"{path} is not a root certificate") from error


def _reason(error: PolicyInvalid | ValidationError) -> str:
    if isinstance(error, ValidationError):
        return "; ".join(f"{'.'.join(map(str, part['loc']))}: {part['msg']}" for part in error.errors())
    return str(error)
