"""The public schedule: everything about a job's exchanges that follows from its spec alone."""

from chiron.wire.jobs import JobSpec

SUMS = 64
"""Values that are summed over the trainers at each exchange."""
IDLE = SUMS - 1
"""Place in the sums that counts idle trainers; the others are the learner's."""
PLAN_HEAD_BYTES = 64
"""Room for what is said about a plan, beside its graph and recipe."""


def plan_bytes(spec: JobSpec) -> int:
    """Room for any plan of this job: both sides of the exchange pad to it."""
    return spec.envelope.max_graph_bytes + PLAN_HEAD_BYTES


def exchanges_of(spec: JobSpec, trial: int) -> range:
    """Numbers of the exchanges that belong to a trial: the job's, dealt out evenly."""
    total = spec.exchange.exchanges
    return range(trial * total // spec.trials, (trial + 1) * total // spec.trials)


def shares(spec: JobSpec) -> list[float]:
    """Examples that each trainer reads: how much its changes count."""
    dataset, trainers = spec.dataset, spec.exchange.trainers
    return [float(sum(map(dataset.rows, dataset.partition(index, trainers)))) for index in range(trainers)]
