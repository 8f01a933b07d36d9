"""Uploads that can be repeated and resumed: everything is named by its content or its place."""

import asyncio
from collections.abc import Callable

from chiron.client.datasets.bundle import Bundle
from chiron.client.errors import GatewayMisbehaved
from chiron.client.gateway_session import GatewaySession, each
from chiron.wire import paths
from chiron.wire.encoding import sha256_hex
from chiron.wire.public_api import BuilderInfo

PARALLEL_CHUNKS = 4
"""Chunks in flight, which is also how many are in memory."""


async def upload_builder(gateway: GatewaySession, component: bytes, manifest: bytes) -> BuilderInfo:
    """Publish a builder.

    Raises:
        GatewayError: refused; where the gateway took it for something else, `gateway-misbehaved`.
    """
    info = await gateway.upload_builder(manifest, component)
    if info.sha256 != sha256_hex(component):
        raise GatewayMisbehaved("the gateway stored the builder under another digest")
    return info


async def upload_dataset(
    gateway: GatewaySession, bundle: Bundle, advance: Callable[[int, int], None] | None = None
) -> None:
    """Send what the gateway does not have yet, then complete the dataset.

    Raises:
        BundleInvalid: a chunk on disk is not the one in the manifest.
        GatewayError: the gateway refused.
    """
    manifest = bundle.manifest
    await gateway.create_dataset(manifest)
    received = set((await gateway.dataset(manifest.dataset_id)).received)
    done = len(received)
    if advance:
        advance(done, manifest.chunks)

    async def send(number: int) -> None:
        nonlocal done
        path = paths.DATASET_CHUNK.of(manifest.dataset_id, number)
        await gateway.put(path, await asyncio.to_thread(bundle.chunk, number))
        done += 1
        if advance:
            advance(done, manifest.chunks)

    missing = (number for number in range(manifest.chunks) if number not in received)
    await each(missing, send, at_once=PARALLEL_CHUNKS)
    await gateway.post(paths.DATASET_COMPLETE.of(manifest.dataset_id))
