"""The shard role: holds one slice of the vector for the parameter server, which admits it.

It is told no secret but what trainers push and what seals its checkpoint: neither the dataset's key nor any
of the owner's. It speaks to nobody on its own account but the gateway and the parameter server, and ends when
that one says so.
"""

from cryptography.hazmat.primitives.asymmetric import ec

from chiron.ps.routes import exchange_routes
from chiron.ps.streams import keep_freed_pieces
from chiron.runtime.attestation.platform import Platform
from chiron.runtime.channels.gateway_client import GatewayClient
from chiron.runtime.channels.shards import ShardMembership, TrainerCertificates
from chiron.runtime.channels.tls import renew, server_context
from chiron.runtime.errors import LaunchInvalid
from chiron.runtime.roles.public_failure import failing_publicly
from chiron.runtime.roles.served_exchange import ServedExchange, listening
from chiron.runtime.roles.server_checkpoint import ShardCheckpoint
from chiron.wire.enclave_api import Ready
from chiron.wire.launch import LaunchSpec
from chiron.wire.p256 import generate_key


async def run(launch: LaunchSpec, platform: Platform) -> None:
    """Serve one shard of one job from its admission to the job's end."""
    if not 1 <= launch.index < launch.spec.exchange.shards:
        raise LaunchInvalid("launch-spec-invalid", "the job has no shard of that index")
    keep_freed_pieces()
    key = generate_key()
    async with (
        GatewayClient(launch.gateway) as gateway,
        failing_publicly(gateway),
        ShardMembership(launch, platform, key, gateway.parameter_server) as membership,
    ):
        await membership.join()
        await _serve(launch, platform, key, gateway, membership)


async def _serve(
    launch: LaunchSpec,
    platform: Platform,
    key: ec.EllipticCurvePrivateKey,
    gateway: GatewayClient,
    membership: ShardMembership,
) -> None:
    checkpoint = ShardCheckpoint(
        launch.spec,
        launch.index,
        membership.grant_name,
        membership.share,
        platform,
        gateway,
        membership.machines,
    )
    exchange = ServedExchange(launch, lambda: checkpoint.save(exchange.server))
    await checkpoint.load(exchange.server)
    context = server_context(key, membership.certificate, membership.authority, only_members=True)
    identify = TrainerCertificates(launch.spec.exchange.trainers).identify

    async def until_ended() -> None:
        # A successor of the parameter server has another CA, and trainers that it lets in are of that one.
        while not await membership.ended():
            renew(context, key, membership.certificate, membership.authority)

    async with listening(exchange_routes(exchange.server, identify), launch, context) as address:
        await gateway.ready(Ready(address=address))
        await exchange.serve_until(until_ended())
