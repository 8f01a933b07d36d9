"""Carries a job's model from an enclave of older code to one of the current.

The owner has the newer enclave started, verifies it, and signs an order for it; then we start the older one
and carry what they say. Nothing of it can be read or altered on the way (`chiron.runtime.roles.upgrade`).
"""

from chiron.api.errors import EnclaveNotRunning, UpgradeRunning
from chiron.api.jobs.fleet import Fleet
from chiron.api.jobs.predictors import Predictors
from chiron.api.jobs.relay import Relay
from chiron.wire.attestation import Role
from chiron.wire.grants import UpgradeMail
from chiron.wire.jobs import Job
from chiron.wire.public_api import PredictorState, UpgradeDemand

_GIVER = 1
"""Index of the older enclave; the newer is the job's predictor, which has 0."""


class Upgrades:
    """At most one a job at a time."""

    def __init__(self, fleet: Fleet, predictors: Predictors, relay: Relay) -> None:
        self._fleet = fleet
        self._predictors = predictors
        self._relay = relay
        self._running: set[str] = set()

    async def begin(self, tenant: str, job: Job) -> PredictorState:
        """End the job's predictor, and begin to launch one that waits for the model.

        Raises:
            UpgradeRunning: a model is on its way already.
            JobNotSucceeded, Overloaded, ShuttingDown: as `Predictors.start`.
        """
        if job.spec.job in self._running:
            raise UpgradeRunning("the job's model is on its way already")
        if self._predictors.state(job.spec.job) is not PredictorState.STOPPED:
            await self._predictors.stop(job.spec.job)
        return self._predictors.start(tenant, job, taking=True)

    async def carry(self, tenant: str, job: Job, demand: UpgradeDemand) -> None:
        """Start the giving enclave, and carry the model from it to the one that waits.

        Raises:
            ImageUnknown: there is no image of the giver's measurement.
            EnclaveNotRunning: no enclave waits for the model.
            UpgradeRunning: a model is on its way already.
            EnclaveRefused: one of the two did, with its own code; and as `Relay.evidence`.
        """
        name = job.spec.job
        self._predictors.require_image(demand.giver)
        taker = self._fleet.find(name, Role.PREDICTOR)
        if taker is None or not taker.taking:
            raise EnclaveNotRunning("no enclave waits for the job's model: begin the upgrade first")
        if name in self._running:
            raise UpgradeRunning("the job's model is on its way already")
        self._running.add(name)
        giver, token = self._fleet.register(tenant, job.spec, Role.PREDICTOR, _GIVER)
        giver.measurement = demand.giver
        try:
            await self._fleet.start(giver, token)
            evidence = await self._relay.give(giver, UpgradeMail(order=demand.order, peer=demand.taker))
            await self._relay.take(taker, UpgradeMail(order=demand.order, peer=evidence))
        finally:
            self._running.discard(name)
            await self._fleet.stop(giver)
        taker.taking = False
