"""The grant: made from what the owner's store records of it, signed, and sealed to a verified enclave only.

What is recorded is all that is needed to send the same grant again, but for the dataset's key: that is in the
dataset's record, and once it is destroyed no grant can be made of what is left.
"""

import time
from collections import deque
from collections.abc import Callable, Sequence
from datetime import datetime

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from chiron.client.builders import in_words
from chiron.client.errors import GrantImpossible, SpecMismatch
from chiron.client.store import GrantTerms, JobRecord, OwnerStore
from chiron.runtime.attestation.verify import VerifiedEvidence
from chiron.runtime.sealing import hpke
from chiron.wire import codes
from chiron.wire.attestation import AttestationPolicy, Role
from chiron.wire.contract import Capability, CapabilityGrants, Oblivious
from chiron.wire.encoding import sha256_hex
from chiron.wire.grants import Grant, PredictionPolicy, Restarts, SignedGrant
from chiron.wire.labels import GRANT
from chiron.wire.machines import MachineKey
from chiron.wire.public_api import BuilderInfo

GRANT_DAYS = 30
"""After as many days no enclave takes a grant up any more, unless the owner says otherwise."""
DAY_S = 24 * 3600
OPENINGS_AN_HOUR = 12
"""How often, at most, what a host has started again is opened again: an honest one seldom does that."""
_CAPABILITY_WORDS = {
    Capability.LOG: "write log lines, which are counted and thrown away",
    Capability.DATASET_SHAPE: "know the dataset's shape and number of examples",
    Capability.DATASET_STATISTICS: "see class counts, means, deviations and quantiles",
    Capability.DATASET_SAMPLE: "look at single examples",
    Capability.RANDOM: "draw random numbers from the job's seed",
    Capability.TRIAL_SCORES: "see how earlier trials went, with scores rounded to three digits",
}


def new_terms(
    now: datetime,
    *,
    capabilities: CapabilityGrants | None = None,
    prediction: PredictionPolicy | None = None,
    restarts: Restarts = Restarts.OWNER,
    machines: Sequence[MachineKey] = (),
    days: int = GRANT_DAYS,
) -> GrantTerms:
    """The terms of a grant that is given now."""
    issued_at = int(now.timestamp())
    return GrantTerms(
        capabilities=capabilities or CapabilityGrants(),
        prediction=prediction or PredictionPolicy(),
        restarts=restarts,
        machines=tuple(machines),
        issued_at=issued_at,
        expires_at=issued_at + days * DAY_S,
    )


def terms_to_send_again(record: JobRecord, now: datetime) -> GrantTerms:
    """The terms that a job was granted under, if its grant may be sent again.

    Raises:
        GrantImpossible: it was never given, has expired, or the job has ended by our own records.
    """
    terms = record.terms
    if terms is None:
        raise GrantImpossible("this job was never granted anything from here", code="grant-missing")
    if record.ended:
        raise GrantImpossible("this job has ended: nothing is granted to it any more", code="job-ended")
    if now.timestamp() >= terms.expires_at:
        raise GrantImpossible("the grant has expired; create the job again", code=codes.GRANT_EXPIRED)
    return terms


def make_grant(store: OwnerStore, record: JobRecord, terms: GrantTerms, policy: AttestationPolicy) -> Grant:
    """A job's grant under these terms; `policy` is what its parameter server demands of trainers.

    Raises:
        RecordMissing: the dataset was not encrypted on this machine, or its key is destroyed.
    """
    return Grant(
        job=record.spec.job,
        dataset_key=store.dataset(record.spec.dataset.dataset_id).key,
        dataset_digest=record.spec.dataset.digest(),
        spec_digest=record.spec.digest(),
        attestation=policy,
        capabilities=terms.capabilities,
        prediction=terms.prediction,
        owner_public_key=record.private_key.public_bytes,
        issued_at=terms.issued_at,
        expires_at=terms.expires_at,
        share=record.share,
        restarts=terms.restarts,
        oblivious=record.spec.oblivious,
        machines=terms.machines,
        owner_signing_key=record.signing_public_key,
    )


def seal_grant(verified: VerifiedEvidence, grant: Grant, signing_key: Ed25519PrivateKey) -> bytes:
    """The grant, signed with the owner's key and sealed to the parameter server that `verified` speaks of.

    There is no other way to seal one.

    Raises:
        SpecMismatch: the evidence is of another role or job than the grant.
    """
    claims = verified.claims
    if claims.role is not Role.PARAMETER_SERVER or claims.job != grant.job or claims.hpke_public_key is None:
        raise SpecMismatch("the evidence is not of this job's parameter server")
    signature = signing_key.sign(grant.signed_bytes(sha256_hex(claims.hpke_public_key)))
    plaintext = SignedGrant(grant=grant, signature=signature).model_dump_json().encode()
    return hpke.seal(claims.hpke_public_key, plaintext, label=GRANT, context=bytes.fromhex(grant.job))


def grant_in_words(
    terms: GrantTerms,
    builder: BuilderInfo | None = None,
    *,
    unpaced: bool = False,
    oblivious: Oblivious = Oblivious.CLAMPED,
) -> list[str]:
    """A grant in words: what it allows, one sentence a line, for the owner to agree to.

    Args:
        unpaced, oblivious: as in the job's spec.
    """
    days = (terms.expires_at - terms.issued_at) // DAY_S
    lines = [f"The verified enclaves may decrypt this dataset, for this job only, for {days} days."]
    if builder is not None:
        lines.append(f"The builder is {in_words(builder)}; no other runs in this job.")
    capabilities, prediction = terms.capabilities, terms.prediction
    for capability in sorted(capabilities.granted):
        words = _CAPABILITY_WORDS[capability]
        if capability is Capability.DATASET_SAMPLE:
            words = f"look at {capabilities.sample_examples} single examples"
        lines.append(f"The builder, confined, may {words} ({capability}).")
    withheld = ", ".join(sorted(set(Capability) - capabilities.granted))
    if withheld:
        lines.append(f"The builder gets nothing of: {withheld}.")
    told = f"the best {prediction.top_k} classes" if prediction.top_k else "every class's score"
    budget = f"at most {prediction.query_budget} rows" if prediction.query_budget else "any number of rows"
    lines.append(f"Predictions tell {told}, rounded to {prediction.decimals} decimals, for {budget}.")
    if unpaced:
        lines.append(_UNPACED_WORDS)
    lines.append(_OBLIVIOUS_WORDS[oblivious])
    lines.append(_RESTARTS_WORDS[terms.restarts])
    if terms.machines:
        keys = ", ".join(sha256_hex(key.public_key) for key in terms.machines)
        lines.append(f"What it makes opens on other machines too, with your share only: {keys}.")
    return lines


_UNPACED_WORDS = (
    "The job keeps no slots. You give up that: its operator, who wrote the builder, sees how long everything "
    "takes, and can have it depend on your rows: some bits at every exchange, and at every answer."
)
_OBLIVIOUS_WORDS = {
    Oblivious.CLAMPED: (
        "A host that watches which pages of memory the enclaves use may learn of your rows: numbers that "
        "rows decide are held to their bounds, no more (clamped; `--oblivious strict` costs speed instead)."
    ),
    Oblivious.STRICT: (
        "Which pages of memory the enclaves use is the same for any rows of this shape, in training, "
        "validation and prediction (strict)."
    ),
}
_RESTARTS_WORDS = {
    Restarts.OWNER: (
        "Enclaves that are started again wait until you have verified them and send the grant again: keep "
        "this command or `chiron keyholder` running."
    ),
    Restarts.ALONE: (
        "Enclaves that are started again go on without you. You give up control of that: until the job ends, "
        "its operator keeps this grant, with your dataset's key, sealed to the processor alone. Whoever "
        "breaks that processor, now or later, opens it, and you cannot take it back."
    ),
}


class HourlyLimit:
    """At most so many times in any hour."""

    def __init__(self, most: int = OPENINGS_AN_HOUR, clock: Callable[[], float] = time.monotonic) -> None:
        self._most = most
        self._clock = clock
        self._taken: deque[float] = deque()

    def take(self) -> bool:
        """Whether it may be done once more; then it counts."""
        now = self._clock()
        while self._taken and now - self._taken[0] >= 3600:
            self._taken.popleft()
        if len(self._taken) >= self._most:
            return False
        self._taken.append(now)
        return True
