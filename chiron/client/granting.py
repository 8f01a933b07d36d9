"""What is granted, and the one way to send it: sealed to a key out of verified evidence."""

from chiron.client.errors import SpecMismatch
from chiron.runtime.attestation.verify import VerifiedEvidence
from chiron.runtime.sealing import hpke
from chiron.wire.attestation import Role
from chiron.wire.contract import Capability, CapabilityGrants
from chiron.wire.grants import Grant, PredictionPolicy
from chiron.wire.labels import GRANT

_CAPABILITY_WORDS = {
    Capability.LOG: "write log lines, which are counted and thrown away",
    Capability.DATASET_SHAPE: "know the dataset's shape and number of examples",
    Capability.DATASET_STATISTICS: "see class counts, means, deviations and quantiles",
    Capability.DATASET_SAMPLE: "look at single examples",
    Capability.RANDOM: "draw random numbers from the job's seed",
}


def seal_grant(verified: VerifiedEvidence, grant: Grant) -> bytes:
    """The grant, sealed to the parameter server that `verified` speaks of. There is no other way to seal one.

    Raises:
        SpecMismatch: the evidence is of another role or job than the grant.
    """
    claims = verified.claims
    if claims.role is not Role.PARAMETER_SERVER or claims.job != grant.job or claims.hpke_public_key is None:
        raise SpecMismatch("the evidence is not of this job's parameter server")
    plaintext = grant.model_dump_json().encode()
    return hpke.seal(claims.hpke_public_key, plaintext, label=GRANT, context=bytes.fromhex(grant.job))


def grant_in_words(capabilities: CapabilityGrants, prediction: PredictionPolicy) -> list[str]:
    """What a grant allows, one sentence a line, for the owner to agree to."""
    lines = ["The verified enclaves may decrypt this dataset, for this job only."]
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
    return lines
