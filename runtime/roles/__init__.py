"""The roles that an enclave can be launched in."""

from collections.abc import Awaitable, Callable

from chiron.runtime.attestation.platform import Platform
from chiron.wire.attestation import Role
from chiron.wire.launch import LaunchSpec


def role_of(launch: LaunchSpec) -> Callable[[LaunchSpec, Platform], Awaitable[None]]:
    """The function that runs a launch's role. Imported late: no role pays for the libraries of another."""
    if launch.role is Role.PARAMETER_SERVER:
        from chiron.runtime.roles import parameter_server

        return parameter_server.run
    if launch.role is Role.SHARD:
        from chiron.runtime.roles import shard

        return shard.run
    if launch.role is Role.PREDICTOR:
        from chiron.runtime.roles import predictor

        return predictor.run
    if launch.index == 0:
        from chiron.runtime.roles import leader

        return leader.run
    from chiron.runtime.roles import trainer

    return trainer.run
