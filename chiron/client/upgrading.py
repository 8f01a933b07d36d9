"""Moving a job's model to newer code: the owner opens the giver, verifies the taker, and orders it.

`chiron.runtime.roles.upgrade` says what each enclave checks of the other. An order names one model, the
measurement that gives it, the one that takes it, and the two started enclaves that were verified here.
"""

from collections.abc import Awaitable, Callable
from contextlib import suppress
from datetime import datetime

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from chiron.client.errors import GatewayError, UpgradeImpossible
from chiron.client.gateway_session import GatewaySession
from chiron.client.history import Deed, note
from chiron.client.opening import Opened, Opener
from chiron.client.store import JobRecord, OwnerStore
from chiron.client.verifying import Verifier
from chiron.runtime.attestation.verify import Expected, VerifiedEvidence
from chiron.wire.attestation import AttestationPolicy, Role
from chiron.wire.encoding import sha256_hex
from chiron.wire.errors import ChironError
from chiron.wire.grants import SignedUpgradeOrder, UpgradeOrder
from chiron.wire.machines import MachineKey
from chiron.wire.public_api import ImageInfo, UpgradeDemand

Clock = Callable[[], datetime]
KeptFor = Callable[[str], Awaitable[tuple[MachineKey, ...]]]


async def move_model(
    gateway: GatewaySession,
    verifier: Verifier,
    store: OwnerStore,
    clock: Clock,
    job: str,
    on_opened: Callable[[Opened], None] | None = None,
    kept_for: KeptFor | None = None,
) -> VerifiedEvidence:
    """Have the enclave code that the verifier's policy accepts take over the job's model; its evidence.

    Both enclaves are opened on the way, and `on_opened` is told of each. `kept_for` gives the keys of
    machines that the newer code of a measurement is to seal the model for, too. Afterwards the owner's
    record says that this policy is the job's.

    Raises:
        RecordMissing: the job was not created on this machine.
        UpgradeImpossible: nothing says what the model is sealed to, or the gateway does not have that code.
        EvidenceRejected, PolicyMissing: one of them is not what its policy accepts; nothing was ordered.
        GatewayError: an enclave refused (its code says why), or the gateway could not carry it.
    """
    record = store.job(job)
    new = await verifier.policy()
    old = _giver(record, await gateway.images())
    (giver,) = old.measurements
    try:
        await gateway.begin_upgrade(job, giver)
        older = Opener(gateway, Verifier(old, gateway, store, clock), store, clock, on_opened)
        gives = await older.opened(gateway, record, giver=True)
        await _order(gateway, verifier, record, old, new, gives, kept_for or _for_no_other)
    except ChironError:
        # The enclave that waits in vain would be in the way of the one that still has the model.
        with suppress(GatewayError):
            await gateway.stop_predictor(job)
        raise
    store.save_job(record.model_copy(update={"policy": new}))
    there = await Opener(gateway, verifier, store, clock, on_opened).opened(gateway, record)
    note(store, job, Deed.MOVED, giver=giver, taker=there.quote.measurement)
    return there


async def _for_no_other(_measurement: str) -> tuple[MachineKey, ...]:
    return ()


def sign_order(order: UpgradeOrder, key: Ed25519PrivateKey) -> SignedUpgradeOrder:
    """Sign an upgrade order with the key that the model names its owner by."""
    return SignedUpgradeOrder(order=order, signature=key.sign(order.signed_bytes()))


async def _order(
    gateway: GatewaySession,
    verifier: Verifier,
    record: JobRecord,
    old: AttestationPolicy,
    new: AttestationPolicy,
    gives: VerifiedEvidence,
    kept_for: KeptFor,
) -> None:
    job = record.spec.job
    evidence, nonce = await verifier.asked(gateway, job, Role.PREDICTOR)
    taker = await verifier.check(evidence, Expected(Role.PREDICTOR, job, nonce))
    order = UpgradeOrder(
        job=job,
        old=old,
        new=_narrowed(new, taker.quote.measurement),
        nonce=nonce,
        taker_key_sha256=sha256_hex(taker.claims.hpke_public_key or b""),
        giver_key_sha256=sha256_hex(gives.claims.hpke_public_key or b""),
        machines=await kept_for(taker.quote.measurement),
    )
    await gateway.order_upgrade(
        job, UpgradeDemand(order=sign_order(order, record.signing_key), taker=evidence)
    )


def _giver(record: JobRecord, images: list[ImageInfo]) -> AttestationPolicy:
    """The job's own policy, narrowed to the older code that it accepts and the gateway has."""
    old = record.policy
    if old is None:
        raise UpgradeImpossible("the job had no grant from this machine: nothing says what to accept")
    # The first is the current code, which takes. A policy by signer accepts by what evidence shows later.
    for image in images[1:]:
        if image.measurement in old.measurements or not old.measurements:
            return _narrowed(old, image.measurement)
    raise UpgradeImpossible("the gateway has no image of the code that the job's model is sealed to")


def _narrowed(policy: AttestationPolicy, measurement: str) -> AttestationPolicy:
    return policy.model_copy(update={"measurements": frozenset({measurement})})
