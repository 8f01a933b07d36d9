"""The roles that an enclave can be launched in."""

from collections.abc import Awaitable, Callable
from functools import partial

from chiron.runtime.attestation.platform import Platform
from chiron.wire.attestation import Role
from chiron.wire.launch import Launch, MachineLaunch


def role_of(launch: Launch) -> Callable[[Platform], Awaitable[None]]:
    """What runs a launch's role. Imported late: no role pays for the libraries of another."""
    if isinstance(launch, MachineLaunch):
        from chiron.runtime.roles import machine

        return partial(machine.run, launch)
    if launch.role is Role.PARAMETER_SERVER:
        from chiron.runtime.roles import parameter_server

        return partial(parameter_server.run, launch)
    if launch.role is Role.SHARD:
        from chiron.runtime.roles import shard

        return partial(shard.run, launch)
    if launch.role is Role.PREDICTOR:
        from chiron.runtime.roles import predictor

        return partial(predictor.run, launch)
    if launch.index == 0:
        from chiron.runtime.roles import leader

        return partial(leader.run, launch)
    from chiron.runtime.roles import trainer

    return partial(trainer.run, launch)
