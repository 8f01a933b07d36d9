"""Adding inclusion proofs to a policy that demands them: from anywhere, as they prove themselves."""

from collections.abc import Iterable

from chiron.wire.attestation import AttestationPolicy
from chiron.wire.transparency import InclusionProof

MAX_PROOFS = 64


def lacks_proofs(policy: AttestationPolicy) -> bool:
    """Whether it demands the log for code that none of its own proofs names."""
    if policy.transparency is None:
        return False
    proved = {proof.entry.measurement for proof in policy.transparency.proofs}
    return not policy.measurements or not policy.measurements <= proved


def completed(policy: AttestationPolicy, proofs: Iterable[InclusionProof]) -> AttestationPolicy:
    """The policy with these proofs where it lacks some; its own come first. Step 11 checks the one used."""
    if policy.transparency is None:
        return policy
    own = policy.transparency.proofs
    proved = {proof.entry.measurement for proof in own}
    wanted = [
        proof
        for proof in proofs
        if proof.entry.measurement not in proved
        and (not policy.measurements or proof.entry.measurement in policy.measurements)
    ]
    together = (*own, *wanted)[:MAX_PROOFS]
    return policy.model_copy(
        update={"transparency": policy.transparency.model_copy(update={"proofs": together})}
    )
