"""Part of step 8: whether the policy accepts the very machine that an enclave runs on.

Whoever can reach the wires of a machine's memory can break its enclaves, and a quote says nothing of where
the machine stands. So a policy can name the machines that its author knows.
"""

from chiron.runtime.attestation.pck import Platform
from chiron.runtime.attestation.steps import StepFailed
from chiron.wire.attestation import AttestationPolicy, PlatformPin


def pins_a_machine(policy: AttestationPolicy) -> bool:
    """Whether the policy accepts only machines that it names. A family of processors is no machine."""
    return bool(policy.platforms) and all(pin.ppid or pin.instance_id for pin in policy.platforms)


def check_machine(platform: Platform, policy: AttestationPolicy) -> str:
    """Check that the policy accepts the platform; what was compared.

    Raises:
        StepFailed: it names others, or wants something off that the certificate does not say is off.
    """
    told = f"PPID {platform.ppid.hex()}, FMSPC {platform.fmspc.hex()}"
    if policy.platforms and not any(_matches(pin, platform) for pin in policy.platforms):
        raise StepFailed(f"the policy names other platforms than this one: {told}")
    settings = (
        ("SMT", policy.allow_smt, platform.smt),
        ("dynamic platform", policy.allow_dynamic_platform, platform.dynamic_platform),
        ("cached keys", policy.allow_cached_keys, platform.cached_keys),
    )
    for name, allowed, value in settings:
        if not allowed and value is not False:
            raise StepFailed(f"{name} is {'on' if value else 'not said to be off'} on this platform: {told}")
    return told if policy.platforms else f"{told}, which the policy does not pin"


def _matches(pin: PlatformPin, platform: Platform) -> bool:
    """Whether all that the pin names is the platform's."""
    pairs = (
        (pin.ppid, platform.ppid),
        (pin.instance_id, platform.instance_id),
        (pin.fmspc, platform.fmspc),
    )
    return all(value is not None and wanted == value.hex() for wanted, value in pairs if wanted is not None)
