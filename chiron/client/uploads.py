"""Uploads that can be repeated and resumed: everything is named by its content or its place."""

import asyncio
from collections.abc import Callable

from pydantic import ValidationError

from chiron.client.datasets.bundle import Bundle
from chiron.client.errors import GatewayMisbehaved
from chiron.client.gateway_session import GatewaySession, each
from chiron.wire import paths
from chiron.wire.contract import BuilderManifest
from chiron.wire.datasets import DatasetManifest
from chiron.wire.encoding import canonical_json, sha256_hex
from chiron.wire.public_api import BuilderInfo, DatasetStatus

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
    if canonical_json(info.manifest) != canonical_json(_published(manifest)):
        raise GatewayMisbehaved("the gateway stored another manifest with the builder")
    return info


def _published(manifest: bytes) -> BuilderManifest:
    try:
        return BuilderManifest.model_validate_json(manifest)
    except ValidationError as error:
        raise GatewayMisbehaved("the gateway took a manifest that is none") from error


async def upload_dataset(
    gateway: GatewaySession, bundle: Bundle, advance: Callable[[int, int], None] | None = None
) -> None:
    """Send what the gateway does not have yet, then complete the dataset.

    Raises:
        BundleInvalid: a chunk on disk is not the one in the manifest.
        GatewayError: the gateway refused, or (`gateway-misbehaved`) speaks of another dataset.
    """
    manifest = bundle.manifest
    received = set(_this_one(manifest, await gateway.create_dataset(manifest)).received)
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
    if not _this_one(manifest, await gateway.complete_dataset(manifest.dataset_id)).complete:
        raise GatewayMisbehaved("the gateway took every chunk, and says that some are missing")


def _this_one(manifest: DatasetManifest, status: DatasetStatus) -> DatasetStatus:
    told = (status.dataset_id, status.digest, status.chunks)
    if told != (manifest.dataset_id, manifest.digest(), manifest.chunks):
        raise GatewayMisbehaved("the gateway answered with another dataset than was sent")
    if not set(status.received) <= set(range(manifest.chunks)):
        raise GatewayMisbehaved("the gateway says that it has chunks which there are not")
    return status
