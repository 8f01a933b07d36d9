"""Which enclaves an owner accepts, and verifying that one is such.

A policy is built from explicit choices: nothing is accepted by default. Evidence is verified over a fresh
nonce, and a predictor must show whose model it serves.
"""

import secrets
from collections.abc import Callable, Iterable
from datetime import datetime
from pathlib import Path

from pydantic import ValidationError

from chiron.client.errors import ConfigurationInvalid, EvidenceRejected, PolicyMissing, RecordMissing
from chiron.client.gateway_session import GatewaySession
from chiron.client.receipts import Verification, keep_verification
from chiron.client.store import OwnerStore
from chiron.runtime.attestation.policy_file import load_policy, load_root
from chiron.runtime.attestation.verify import Expected, VerifiedEvidence, verify
from chiron.runtime.errors import EvidenceRefused, PolicyInvalid
from chiron.runtime.transparency import lacks_proofs, with_proofs
from chiron.wire.attestation import AttestationPolicy, Evidence, Role
from chiron.wire.encoding import sha256_hex

NONCE_BYTES = 32
HOW_TO_GET_A_MEASUREMENT = (
    "Name the enclave code that you accept: --measurement HEX, or --policy FILE. Build the image from the "
    "source you reviewed and run `chiron image measure` to get the measurement; do not take it from the "
    "operator."
)


def policy_of(
    measurements: Iterable[str] = (),
    *,
    signers: Iterable[str] = (),
    file: Path | None = None,
    software_root: Path | None = None,
) -> AttestationPolicy:
    """The policy in `file`, or one that accepts these measurements; under Intel's root unless told otherwise.

    Under Intel's root evidence is refused unless a signer (MRSIGNER) is named as well.

    Raises:
        PolicyMissing: neither measurements nor a file were given.
        ConfigurationInvalid: a measurement, the file or the root is malformed.
    """
    options = {
        "measurements": frozenset(map(_digest, measurements)),
        "signers": frozenset(map(_digest, signers)),
        "software_root": software_root_der(software_root) if software_root else None,
    }
    given = {name: value for name, value in options.items() if value}
    if file is None and "measurements" not in given:
        raise PolicyMissing(HOW_TO_GET_A_MEASUREMENT)
    try:
        fields = load_policy(file).model_dump() if file else {}
        return AttestationPolicy.model_validate(fields | given)
    except (PolicyInvalid, ValidationError) as error:
        raise ConfigurationInvalid(f"the attestation policy cannot be used: {_reason(error)}") from error


def _digest(text: str) -> str:
    """A digest as policies have it; other tools write capitals, or 0x before it."""
    return text.strip().lower().removeprefix("0x")


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


class Verifier:
    """One owner's, with one policy."""

    def __init__(
        self,
        policy: AttestationPolicy | None,
        gateway: GatewaySession,
        store: OwnerStore,
        clock: Callable[[], datetime],
    ) -> None:
        self.given = policy
        """The owner's policy; inclusion proofs that it lacked are added once they were asked for."""
        self._gateway = gateway
        self._store = store
        self._clock = clock

    async def policy(self) -> AttestationPolicy:
        """The owner's policy. Inclusion proofs that it demands and lacks are taken from the gateway.

        That is safe: verifying checks them under the log's key, which is the owner's own.

        Raises:
            PolicyMissing: there is none.
            GatewayError: proofs are lacking, and the gateway cannot be asked.
        """
        if self.given is None:
            raise PolicyMissing(HOW_TO_GET_A_MEASUREMENT)
        if lacks_proofs(self.given):
            images = await self._gateway.images()
            self.given = with_proofs(self.given, [image.proof for image in images if image.proof])
        return self.given

    async def image(self) -> str | None:
        """Measurement of the older code to start a predictor from; None where the current one is accepted."""
        accepted = (await self.policy()).measurements
        images = [image.measurement for image in await self._gateway.images()]
        if not accepted or (images and images[0] in accepted):
            return None
        return next((measurement for measurement in images if measurement in accepted), None)

    async def verified(
        self, session: GatewaySession, job: str, role: Role, *, giver: bool = False
    ) -> VerifiedEvidence:
        """Evidence that `session` gives over a fresh nonce.

        A predictor's names us as its model's owner, or nobody where it is locked. With `giver`, it is that of
        the older predictor in an upgrade.

        Raises:
            PolicyMissing: there is no policy.
            EvidenceRejected: a step did not hold.
        """
        evidence, nonce = await self.asked(session, job, role, giver=giver)
        locked = evidence.claims.owner_key_sha256 is None
        owner = self._owner_key(job) if role is Role.PREDICTOR and not locked else None
        return await self.check(evidence, Expected(role, job, nonce, owner_key_sha256=owner))

    async def asked(
        self, session: GatewaySession, job: str, role: Role, *, giver: bool = False
    ) -> tuple[Evidence, bytes]:
        """Evidence over a fresh nonce, not verified yet, and that nonce."""
        await self.policy()
        nonce = secrets.token_bytes(NONCE_BYTES)
        return await session.evidence(job, role, nonce, giver=giver), nonce

    async def check(self, evidence: Evidence, expected: Expected) -> VerifiedEvidence:
        """Verify evidence by the owner's policy.

        Raises:
            PolicyMissing, EvidenceRejected: as `verified`.
        """
        try:
            policy, at = await self.policy(), self._clock()
            verified = verify(evidence, policy, expected, at)
        except EvidenceRefused as error:
            raise EvidenceRejected(str(error), code=error.code, steps=error.steps) from error
        if expected.role is Role.PARAMETER_SERVER and self._store.knows_job(expected.job):
            seen = Verification(at=int(at.timestamp()), evidence=evidence, policy=policy)
            keep_verification(self._store, seen)
        return verified

    def _owner_key(self, job: str) -> str | None:
        try:
            return sha256_hex(self._store.job(job).signing_public_key)
        except RecordMissing:
            return None
