"""A job whose vector lies on two servers, through the real service: confined enclaves, one shard each."""

import numpy as np

from chiron import Client, JobRequest
from chiron.client.datasets import Encrypted
from chiron.wire.exchange import ExchangeTerms
from chiron.wire.jobs import JobState
from chiron.wire.objects import SEALED_TO_ENCLAVE_BYTES, shard_checkpoint
from chiron.wire.reports import OutcomeStatus
from tests.end_to_end.service import run_to_end


def test_two_trainers_train_over_two_shards(owner: Client, digits: Encrypted, linear: str) -> None:
    request = JobRequest(
        dataset_id=digits.bundle.manifest.dataset_id,
        builder_sha256=linear,
        trainers=2,
        exchanges=4,
        terms=ExchangeTerms(unpaced=True, shards=2),
    )
    job, outcome = run_to_end(owner, request)
    assert job.state is JobState.SUCCEEDED
    assert outcome.status is OutcomeStatus.TRAINED, outcome
    sizes = {seen.name: seen.size for seen in owner.observations(job)}
    # Each keeps half of the vector, in eight bytes a parameter; the first also the plan and the grant.
    shard = sizes["checkpoint-parameter-server-1"]
    assert shard == shard_checkpoint(job.spec, 1).stored_bytes
    assert shard < SEALED_TO_ENCLAVE_BYTES + 6 * job.spec.exchange.parameters
    assert sizes["checkpoint-parameter-server"] > job.spec.envelope.max_graph_bytes
    assert digits.record.held_out is not None
    with np.load(digits.record.held_out) as kept:
        assert np.mean(owner.predict(job, kept["x"]).labels == kept["y"]) > 0.85
