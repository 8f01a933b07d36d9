"""CycloneDX bill of materials of an image: what is in it, of which version, under which licence."""

import json
import platform
import uuid
from importlib import metadata
from pathlib import PurePosixPath
from typing import Any

from cyclonedx.model import HashAlgorithm, HashType
from cyclonedx.model.bom import Bom
from cyclonedx.model.component import Component, ComponentType
from cyclonedx.model.license import DisjunctiveLicense, LicenseExpression
from cyclonedx.output.json import JsonV1Dot6
from packageurl import PackageURL

from chiron.enclave_image.contents import OUR_ROOMS, PROJECT, STDLIB
from chiron.enclave_image.manifest import File, ImageManifest

_NAMESPACE = uuid.UUID("6ba7b811-9dad-11d1-80b4-00c04fd430c8")
"""RFC 4122's for URLs: our serial numbers are names, as an image's bill must be the same every time."""


def bill_of_materials(manifest: ImageManifest, distributions: list[metadata.Distribution]) -> str:
    """CycloneDX 1.6 JSON, a function of the image and the versions of what is in it."""
    image = Component(
        type=ComponentType.CONTAINER,
        name="chiron-enclave-image",
        bom_ref="image",
        hashes=[HashType(alg=HashAlgorithm.SHA_256, content=manifest.measurement)],
        description="hash: the image's measurement",
    )
    bom = Bom(
        serial_number=uuid.uuid5(_NAMESPACE, f"urn:chiron:image:{manifest.measurement}"),
        components=[_interpreter(), *map(_distribution, distributions), *_ours(), *_libraries(manifest)],
    )
    bom.metadata.component = image
    bom.register_dependency(image, bom.components)
    document: dict[str, Any] = json.loads(JsonV1Dot6(bom).output_as_string())
    # When and with what it was written is not of the image.
    document["metadata"].pop("timestamp", None)
    document["metadata"].pop("tools", None)
    return json.dumps(document, indent=1, sort_keys=True) + "\n"


def _interpreter() -> Component:
    return Component(
        type=ComponentType.PLATFORM,
        name="cpython",
        version=platform.python_version(),
        bom_ref="cpython",
        licenses=[DisjunctiveLicense(id="PSF-2.0")],
        description=f"interpreter and standard library ({STDLIB})",
    )


def _distribution(distribution: metadata.Distribution) -> Component:
    name, version = distribution.metadata["Name"], distribution.version
    return Component(
        type=ComponentType.LIBRARY,
        name=name,
        version=version,
        bom_ref=f"pypi:{name}",
        purl=PackageURL("pypi", None, name.lower().replace("_", "-"), version),
        licenses=_licences(distribution),
    )


def _licences(distribution: metadata.Distribution) -> list[LicenseExpression | DisjunctiveLicense]:
    """The licence that the distribution declares: an SPDX expression (PEP 639), or else a short name."""
    declared = distribution.metadata.json
    if expression := declared.get("license_expression"):
        return [LicenseExpression(str(expression))]
    name = str(declared.get("license") or "")
    return [DisjunctiveLicense(name=name)] if name and "\n" not in name else []


def _ours() -> list[Component]:
    version = metadata.version(PROJECT)
    return [
        Component(
            type=ComponentType.LIBRARY,
            name=f"chiron.{name}",
            group=PROJECT,
            version=version,
            bom_ref=f"chiron:{name}",
            licenses=[DisjunctiveLicense(id="Apache-2.0")],
        )
        for name in OUR_ROOMS
    ]


def _libraries(manifest: ImageManifest) -> list[Component]:
    """Shared libraries of the system: Python's packages bring their own with them."""
    return [
        Component(
            type=ComponentType.LIBRARY,
            name=PurePosixPath(entry.path).name,
            bom_ref=f"file:{entry.path}",
            hashes=[HashType(alg=HashAlgorithm.SHA_256, content=entry.sha256)],
            description=entry.path,
        )
        for entry in manifest.entries
        if isinstance(entry, File) and entry.path.startswith(("/lib", "/usr/lib"))
    ]
