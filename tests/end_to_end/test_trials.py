"""Several trials through real enclaves: the builder learns from the first, and the best model is sealed."""

import numpy as np

from chiron import Client, JobRequest
from chiron.client.datasets import Encrypted
from chiron.wire.reports import OutcomeStatus
from tests.end_to_end.service import MANIFEST, Service, element_type, run_to_end
from tests.support import graphs
from tests.support.builders import revising
from tests.support.specs import UNPACED

POOR = b'{"optimizer": {"kind": "adamw", "learning_rate": 1e-6}, "batch_size": 64, "epochs": 1}'


def test_the_best_of_three_trials_is_sealed_and_each_ran_its_share_of_the_schedule(
    service: Service, owner: Client, digits: Encrypted
) -> None:
    described = digits.bundle.manifest
    graph = graphs.linear(described.input_shape, element_type(digits))
    manifest = MANIFEST.model_copy(update={"name": "revising"}).model_dump_json().encode()
    with service.operator() as operator:
        info = operator.upload_builder(revising(graph, POOR, graphs.RECIPE), manifest)
    request = JobRequest(
        terms=UNPACED,
        dataset_id=described.dataset_id,
        builder_sha256=info.sha256,
        trainers=2,
        exchanges=6,
        trials=3,
    )
    job, outcome = run_to_end(owner, request)
    assert outcome.status is OutcomeStatus.TRAINED, outcome
    assert outcome.metrics is not None
    reports = owner.reports(job)
    assert [report.trial for report in reports] == [0, 0, 1, 1, 2, 2]
    accuracy = [report.validation_accuracy or 0.0 for report in reports]
    assert outcome.metrics.trial in (1, 2)
    assert outcome.metrics.validation_accuracy == max(accuracy[3], accuracy[5]) > accuracy[1] + 0.3
    assert digits.record.held_out is not None
    with np.load(digits.record.held_out) as kept:
        assert np.mean(owner.predict(job, kept["x"]).labels == kept["y"]) > 0.85
