"""/v1/builders: operators publish, everybody reads."""

import asyncio
from collections.abc import Sequence

from aiohttp import BodyPartReader, MultipartReader, web

from chiron.api.bodies import parse_json
from chiron.api.errors import BodyTooLarge, RequestInvalid, RequestTimeout
from chiron.api.keys import Principal
from chiron.api.operations import Call, Routes
from chiron.api.public.callers import BOTH, OPERATOR
from chiron.wire import paths
from chiron.wire.contract import BuilderManifest
from chiron.wire.public_api import BuilderInfo

routes = Routes()
_MULTIPART_OVERHEAD = 16 * 1024


@routes.add(
    "POST",
    paths.BUILDERS,
    roles=OPERATOR,
    streams="multipart/form-data",
    answer=BuilderInfo,
    status=201,
    limit=lambda limits: limits.component_bytes + limits.builder_manifest_bytes + _MULTIPART_OVERHEAD,
)
async def publish(call: Call[Principal, None]) -> BuilderInfo:
    """Publish a builder: parts `manifest` (JSON) and `component` (WebAssembly)."""
    limits = call.gateway.settings.limits
    allowed = {"manifest": limits.builder_manifest_bytes, "component": limits.component_bytes}
    try:
        async with asyncio.timeout(call.gateway.settings.timing.body_s):
            parts = await _read_parts(call.request, allowed)
    except TimeoutError:
        raise RequestTimeout("the upload did not arrive in time") from None
    manifest = parse_json(BuilderManifest, parts["manifest"])
    info = await call.gateway.builders.add(call.caller.tenant, manifest, parts["component"])
    call.gateway.metrics.stored_bytes.labels("builder").inc(info.size)
    return info


@routes.add("GET", paths.BUILDERS, roles=BOTH, answer=list[BuilderInfo])
async def list_builders(call: Call[Principal, None]) -> Sequence[BuilderInfo]:
    """List the builders, newest first."""
    return await call.gateway.builders.listed()


@routes.add("GET", paths.BUILDER, roles=BOTH, answer=BuilderInfo)
async def show_builder(call: Call[Principal, None]) -> BuilderInfo:
    """Show a builder and the capabilities that it asks for."""
    return await call.gateway.builders.info(call.path("sha256"))


async def _read_parts(request: web.Request, allowed: dict[str, int]) -> dict[str, bytes]:
    """Exactly the parts of `allowed`, each within its bytes."""
    if not request.content_type.startswith("multipart/"):
        raise RequestInvalid("send multipart/form-data with the parts manifest and component")
    found: dict[str, bytes] = {}
    try:
        reader = await request.multipart()
        while (part := await reader.next()) is not None:
            if isinstance(part, MultipartReader) or part.name not in allowed or part.name in found:
                raise RequestInvalid("the parts are manifest and component, each once")
            found[part.name] = await _read_part(part, allowed[part.name])
    except (ValueError, AssertionError, web.HTTPException, UnicodeDecodeError) as error:
        raise RequestInvalid("the multipart body is malformed") from error
    for name in allowed:
        if name not in found:
            raise RequestInvalid(f"{name}: this part is missing")
    return found


async def _read_part(part: BodyPartReader, limit: int) -> bytes:
    content = bytearray()
    while piece := await part.read_chunk(256 * 1024):
        content += piece
        if len(content) > limit:
            raise BodyTooLarge(f"{part.name}: at most {limit} bytes are taken here")
    return bytes(content)
