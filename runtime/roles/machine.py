"""The machine role: tells the key that enclaves of this code elsewhere seal to for this machine, and ends.

It is of no job, and is told nothing but a verifier's nonce. Its evidence binds the key, and by its nonce the
recipe that the key is derived from.
"""

from chiron.runtime.attestation.platform import Platform, attest
from chiron.runtime.channels.gateway_client import GatewayClient
from chiron.runtime.sealing.machine_key import own_key
from chiron.wire.attestation import Claims, Role
from chiron.wire.launch import MachineLaunch
from chiron.wire.machines import NO_JOB, MachineEvidence, machine_nonce


async def run(launch: MachineLaunch, platform: Platform) -> None:
    """Answer the one nonce that we were launched with."""
    async with GatewayClient(launch.gateway) as gateway:
        await gateway.machine(machine_evidence(platform, launch.nonce))


def machine_evidence(platform: Platform, nonce: bytes) -> MachineEvidence:
    """This machine's key, in fresh evidence.

    Raises:
        PlatformUnavailable: the platform gives no key or quote.
    """
    key = own_key(platform)
    claims = Claims(
        role=Role.MACHINE,
        job=NO_JOB,
        hpke_public_key=key.public_key,
        nonce=machine_nonce(nonce, key.recipe),
    )
    return MachineEvidence(evidence=attest(platform, claims), recipe=key.recipe)
