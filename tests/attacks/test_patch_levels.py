"""A whole job on a machine that needs configuration: the owner's policy alone says whether it runs."""

from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from chiron.client.errors import EvidenceRejected
from chiron.wire.attestation import TcbStatus
from chiron.wire.jobs import JobState
from tests.support.builders import orderly
from tests.support.mortal import mortal_world

NEEDS_CONFIGURATION = TcbStatus.CONFIGURATION_NEEDED


@pytest.fixture
def directory() -> Iterator[Path]:
    """Short enough for the paths of Unix sockets."""
    with TemporaryDirectory(prefix="chiron-") as made:
        yield Path(made)


async def test_a_job_runs_to_its_end_on_a_machine_whose_patch_level_the_owner_accepts(
    directory: Path,
) -> None:
    accepted = frozenset({TcbStatus.UP_TO_DATE, NEEDS_CONFIGURATION})
    async with mortal_world(
        directory, keyholder=False, status=NEEDS_CONFIGURATION, accepted_tcb=accepted
    ) as world:
        ended = await world.run(orderly(), exchanges=2)
    assert (ended.job.state, ended.job.failure) == (JobState.SUCCEEDED, None), world.codes
    assert ended.model


async def test_nothing_is_granted_to_a_machine_whose_patch_level_the_owner_does_not_accept(
    directory: Path,
) -> None:
    async with mortal_world(directory, keyholder=False, status=NEEDS_CONFIGURATION) as world:
        with pytest.raises(EvidenceRejected) as refused:
            await world.run(orderly(), exchanges=2)
        assert refused.value.code == "evidence-tcb-status"
        (job,) = await world.owner.jobs()
        assert job.state in {JobState.LAUNCHING, JobState.AWAITING_GRANT}
        assert world.objects(job) == []
