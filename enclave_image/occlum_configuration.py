"""Occlum.json, strictly: Occlum itself ignores a key that it does not know, and a typing error with it.

The schema follows the structures that Occlum's `gen_internal_conf` reads (v0.31).
"""

import json
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError

from chiron.enclave_image.errors import OcclumRefuses
from chiron.enclave_image.start import ENTRY_PROGRAM
from chiron.wire.launch import LAUNCH_VARIABLE

PRODUCTION = Path(__file__).parent / "Occlum.json"
DEVELOPMENT = Path(__file__).parent / "Occlum.development.json"
"""A JSON merge patch (RFC 7396) over `PRODUCTION`."""

Size = Annotated[str, StringConstraints(pattern=r"^[1-9][0-9]*(B|KB|MB|GB|TB)$")]
AbsolutePath = Annotated[str, StringConstraints(pattern=r"^/")]
Id = Annotated[str, StringConstraints(pattern=r"^0x[0-9a-f]{1,16}$")]
_UNIT = {"B": 1, "KB": 2**10, "MB": 2**20, "GB": 2**30, "TB": 2**40}


class _Strict(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


class ResourceLimits(_Strict):
    """Memory and threads of the enclave; without EDMM the larger sizes are committed at start."""

    kernel_space_heap_size: Size
    kernel_space_heap_max_size: Size
    kernel_space_stack_size: Size
    user_space_size: Size
    user_space_max_size: Size
    init_num_of_threads: int = Field(ge=1)
    max_num_of_threads: int = Field(ge=1, le=4096)


class ProcessLimits(_Strict):
    """Limits of one process in the enclave."""

    default_stack_size: Size
    default_heap_size: Size
    default_mmap_size: Size


class Environment(_Strict):
    """Variables: measured defaults, and the names that the host may set, over the defaults."""

    default: list[Annotated[str, StringConstraints(pattern=r"^[A-Z_][A-Z0-9_]*=")]]
    untrusted: list[Annotated[str, StringConstraints(pattern=r"^[A-Z_][A-Z0-9_]*$")]]


class KssId(_Strict):
    """128 bits of key separation."""

    high: Id
    low: Id


class Metadata(_Strict):
    """What a quote says of the enclave."""

    product_id: int = Field(ge=0, le=65_535)
    version_number: int = Field(ge=0, le=65_535)
    debuggable: bool
    disable_log: bool
    enable_kss: bool
    family_id: KssId
    ext_prod_id: KssId


class Features(_Strict):
    """Optional parts of Occlum and of the processor."""

    amx: int = Field(ge=0, le=2)
    pkru: int = Field(ge=0, le=2)
    io_uring: int = Field(ge=0, le=16)
    enable_edmm: bool
    enable_posix_shm: bool


class LayerOptions(_Strict):
    """The measured layer carries a MAC; the writable one is made anew at each start."""

    MAC: str | None = None
    temporary: Literal[True] | None = None


class Layer(_Strict):
    """One layer of the root."""

    target: Literal["/"]
    type: Literal["sefs"]
    source: str
    options: LayerOptions


class RootOptions(_Strict):
    """The measured layer, and over it the writable one."""

    layers: Annotated[list[Layer], Field(min_length=2, max_length=2)]


class RootMount(_Strict):
    """The root: measured and encrypted."""

    target: Literal["/"]
    type: Literal["unionfs"]
    options: RootOptions


class MemoryMount(_Strict):
    """A folder in the enclave's memory. `hostfs`, which nothing protects, is not among our mounts."""

    target: AbsolutePath
    type: Literal["ramfs"]


class OcclumConfiguration(_Strict):
    """Occlum.json."""

    resource_limits: ResourceLimits
    process: ProcessLimits
    entry_points: Annotated[list[AbsolutePath], Field(min_length=1)]
    env: Environment
    metadata: Metadata
    feature: Features
    mount: Annotated[list[RootMount | MemoryMount], Field(min_length=1)]


def read_configuration(*, development: bool = False) -> dict[str, Any]:
    """Occlum.json as Occlum takes it, checked.

    Raises:
        OcclumRefuses: a key is unknown, a value is wrong, or production would be debuggable.
    """
    document: dict[str, Any] = _load(PRODUCTION)
    if development:
        document = merge_patch(document, _load(DEVELOPMENT))
    check_configuration(document, development=development)
    return document


def check_configuration(document: object, *, development: bool = False) -> OcclumConfiguration:
    """The configuration, parsed and checked.

    Raises:
        OcclumRefuses: a key is unknown, a value is wrong, or production would be debuggable.
    """
    try:
        configuration = OcclumConfiguration.model_validate(document)
    except ValidationError as error:
        wrong = "; ".join(f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors()[:5])
        raise OcclumRefuses(f"Occlum.json: {wrong}") from error
    limits, layers = configuration.resource_limits, _root(configuration).options.layers
    for small, large in (
        (limits.user_space_size, limits.user_space_max_size),
        (limits.kernel_space_heap_size, limits.kernel_space_heap_max_size),
    ):
        if in_bytes(small) > in_bytes(large):
            raise OcclumRefuses(f"Occlum.json: {small} is more than its maximum {large}")
    if [layer.options.MAC is None for layer in layers] != [False, True]:
        raise OcclumRefuses("Occlum.json: the root's first layer, and only it, must carry a MAC")
    if [layer.options.temporary for layer in layers] != [None, True]:
        raise OcclumRefuses("Occlum.json: the root's second layer, and only it, must be temporary")
    if configuration.entry_points != [ENTRY_PROGRAM]:
        raise OcclumRefuses(f"Occlum.json: {ENTRY_PROGRAM} must be the one entry point")
    if configuration.env.untrusted != [LAUNCH_VARIABLE]:
        raise OcclumRefuses(f"Occlum.json: the host may set {LAUNCH_VARIABLE} and nothing else")
    if configuration.metadata.debuggable and not development:
        raise OcclumRefuses("Occlum.json: a production enclave must not be debuggable")
    return configuration


def in_bytes(size: str) -> int:
    """`"8MB"` → 8388608."""
    number, unit = size.rstrip("BKMGT"), size.lstrip("0123456789")
    return int(number) * _UNIT[unit]


def merge_patch(target: Any, patch: Any) -> Any:
    """RFC 7396."""
    if not isinstance(patch, dict):
        return patch
    merged = dict(target) if isinstance(target, dict) else {}
    for key, value in patch.items():
        if value is None:
            merged.pop(key, None)
        else:
            merged[key] = merge_patch(merged.get(key), value)
    return merged


def _root(configuration: OcclumConfiguration) -> RootMount:
    roots = [mount for mount in configuration.mount if isinstance(mount, RootMount)]
    if len(roots) != 1:
        raise OcclumRefuses("Occlum.json: there must be one root mount")
    return roots[0]


def _load(path: Path) -> Any:
    loaded: Any = json.loads(path.read_text())
    return loaded
