"""Builders as the gateway lists them: what is public of an operator's component."""

from pydantic import Field

from chiron.wire.contract import BuilderManifest, Capability
from chiron.wire.encoding import Digest, WireModel


class BuilderInfo(WireModel):
    """GET /v1/builders/{sha256}, and the answer to an upload."""

    sha256: Digest
    """Of the component's bytes: the builder's identity."""
    size: int = Field(ge=1)
    """Bytes of the component."""
    capabilities: tuple[Capability, ...]
    """What the component imports, sorted; a job runs it only if its owner grants all of these."""
    manifest: BuilderManifest
    created_at: str
    """RFC 3339, UTC."""
