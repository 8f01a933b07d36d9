"""What Occlum would refuse, or silently ignore, is found without it."""

import copy
import hashlib
import json
import shutil
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator

from chiron.enclave_image.contents import ENTRY_POINT, INTERPRETER, runtime_distributions
from chiron.enclave_image.elf import is_elf, read_elf
from chiron.enclave_image.errors import ImageInvalid, OcclumRefuses
from chiron.enclave_image.manifest import MANIFEST, ROOT, SBOM, File, read_manifest
from chiron.enclave_image.occlum_configuration import (
    check_configuration,
    in_bytes,
    merge_patch,
    read_configuration,
)
from chiron.enclave_image.occlum_files import (
    OCCLUM_GLIBC,
    bill_of_materials,
    occlum_problems,
    parse_version,
    write_occlum_files,
)
from chiron.enclave_image.sbom import bill_of_materials as software_bill

FUTURE = (99, 0)
"""A C library that has everything, as this machine's may be newer than Occlum's."""


def changed(path: str, value: Any) -> dict[str, Any]:
    """The production configuration with one value changed or added."""
    document = copy.deepcopy(read_configuration())
    place: Any = document
    *parents, last = [int(name) if name.isdigit() else name for name in path.split("/")]
    for name in parents:
        place = place[name]
    place[last] = value
    return document


def test_production_configuration_is_sound_and_not_debuggable() -> None:
    configuration = check_configuration(read_configuration())
    assert not configuration.metadata.debuggable
    assert configuration.metadata.disable_log
    assert configuration.env.untrusted == ["CHIRON_LAUNCH"]
    assert not any(mount["type"] == "hostfs" for mount in read_configuration()["mount"])


def test_development_differs_in_what_it_says_only() -> None:
    production, development = read_configuration(), read_configuration(development=True)
    assert development["metadata"]["debuggable"]
    development["metadata"] |= {"debuggable": False, "disable_log": True}
    assert development == production


@pytest.mark.parametrize(
    ("path", "value", "said"),
    [
        ("resource_limits/user_space_maxsize", "8GB", "user_space_maxsize: Extra inputs"),
        ("metadata/debugable", False, "debugable: Extra inputs"),
        ("mout", [], "mout: Extra inputs"),
        ("feature/amx", 3, "feature.amx"),
        ("feature/enable_edmm", "true", "enable_edmm"),
        ("resource_limits/user_space_size", "1 GB", "user_space_size"),
        ("resource_limits/user_space_size", "8GB", "8GB is more than its maximum 6GB"),
        ("resource_limits/kernel_space_heap_size", "1GB", "1GB is more than its maximum 512MB"),
        ("metadata/debuggable", True, "must not be debuggable"),
        ("env/untrusted", ["CHIRON_LAUNCH", "LD_PRELOAD"], "may set CHIRON_LAUNCH and nothing else"),
        ("env/default", ["no variable"], "env.default"),
        ("mount/1", {"target": "/host", "type": "hostfs", "source": "."}, "mount"),
        ("mount/0", {"target": "/x", "type": "ramfs"}, "one root mount"),
        ("mount/0/options/layers/1/options", {"MAC": ""}, "must carry a MAC"),
        ("mount/0/options/layers/1/options", {}, "must be temporary"),
        ("mount/0/options/layers/1/options/temporary", False, "temporary"),
        ("entry_points", [], "entry_points"),
        ("entry_points", ["/opt/chiron/bin/enclave", "/opt/python"], "the one entry point"),
        ("entry_points", ["/opt/chiron/bin"], "the one entry point"),
    ],
)
def test_refuses(path: str, value: Any, said: str) -> None:
    with pytest.raises(OcclumRefuses, match=said):
        check_configuration(changed(path, value))


@pytest.mark.parametrize("key", list(read_configuration()))
def test_every_top_level_key_is_required(key: str) -> None:
    document = read_configuration()
    del document[key]
    with pytest.raises(OcclumRefuses, match=key):
        check_configuration(document)


@pytest.mark.parametrize(("size", "expected"), [("1B", 1), ("3KB", 3072), ("8MB", 2**23), ("6GB", 6 * 2**30)])
def test_sizes(size: str, expected: int) -> None:
    assert in_bytes(size) == expected


@pytest.mark.parametrize(  # RFC 7396, appendix A, those with objects.
    ("target", "patch", "result"),
    [
        ({"a": "b"}, {"a": "c"}, {"a": "c"}),
        ({"a": "b"}, {"b": "c"}, {"a": "b", "b": "c"}),
        ({"a": "b"}, {"a": None}, {}),
        ({"a": ["b"]}, {"a": "c"}, {"a": "c"}),
        ({"a": {"b": "c"}}, {"a": {"b": "d", "c": None}}, {"a": {"b": "d"}}),
        ({"a": [{"b": "c"}]}, {"a": [1]}, {"a": [1]}),
        ({"e": None}, {"a": 1}, {"e": None, "a": 1}),
        ([1, 2], {"a": "b", "c": None}, {"a": "b"}),
        ({}, {"a": {"bb": {"ccc": None}}}, {"a": {"bb": {}}}),
    ],
)
def test_merge_patch(target: Any, patch: Any, result: Any) -> None:
    assert merge_patch(target, patch) == result


def test_writes_files_whose_bill_names_every_library_with_its_hash(
    occlum_image: Path, tmp_path: Path
) -> None:
    image = occlum_image
    manifest = write_occlum_files(image, tmp_path / "occlum", glibc=FUTURE)
    assert json.loads((tmp_path / "occlum/Occlum.json").read_text()) == read_configuration()
    bom = yaml.safe_load((tmp_path / "occlum/bom.yaml").read_text())
    assert bom == bill_of_materials(manifest)
    libraries = bom["targets"][-1]
    assert libraries["target"] == "/opt/occlum/glibc/lib"
    copied = {}
    for copies in libraries["copy"]:
        folder = copies["from"].replace("${CHIRON_IMAGE}", str(image))
        for file in copies["files"]:
            digest = hashlib.sha256(Path(folder, file["name"]).read_bytes()).hexdigest()
            assert file["hash"] == digest.upper()
            copied[file["name"]] = digest
    assert {"libssl.so.3", "libcrypto.so.3", "libstdc++.so.6"} <= set(copied)
    assert not {"libc.so.6", "libm.so.6", "ld-linux-x86-64.so.2"} & set(copied)


def test_bill_copies_files_that_the_image_has(image: Path) -> None:
    bom = bill_of_materials(read_manifest(image))
    for target in bom["targets"]:
        for copies in target["copy"]:
            if not copies["from"].startswith("${CHIRON_IMAGE}"):
                continue  # Occlum's own files
            folder = Path(copies["from"].replace("${CHIRON_IMAGE}", str(image)))
            for name in [*copies.get("dirs", ()), *copies.get("files", ())]:
                assert (folder / (name if isinstance(name, str) else name["name"])).exists()


def test_every_program_of_the_image_is_looked_at(occlum_image: Path) -> None:
    manifest = read_manifest(occlum_image)
    files = [entry for entry in manifest.entries if isinstance(entry, File)]
    assert sum(is_elf(occlum_image / ROOT / file.path[1:]) for file in files) > 50
    assert occlum_problems(occlum_image, manifest, FUTURE) == []


def test_refuses_an_image_whose_interpreter_is_not_position_independent(
    occlum_image: Path, tmp_path: Path
) -> None:
    root = tmp_path / ROOT
    interpreter = root / INTERPRETER.relative_to("/")
    interpreter.parent.mkdir(parents=True)
    content = bytearray((occlum_image / ROOT / INTERPRETER.relative_to("/")).read_bytes())
    content[16:18] = (2).to_bytes(2, "little")  # ET_EXEC
    interpreter.write_bytes(content)
    shutil.copy(occlum_image / MANIFEST, tmp_path)
    with pytest.raises(OcclumRefuses, match="not position-independent: build the image with a PIE"):
        write_occlum_files(tmp_path, tmp_path / "occlum", glibc=FUTURE)
    assert not (tmp_path / "occlum").exists()


def test_names_what_needs_a_newer_c_library(image: Path) -> None:
    problems = occlum_problems(image, read_manifest(image), (2, 2))
    assert any("needs glibc 2." in problem and "Occlum's is 2.2" in problem for problem in problems)


def test_an_interpreter_that_is_not_position_independent_is_found(tmp_path: Path) -> None:
    content = bytearray(Path(sys.executable).resolve().read_bytes())
    facts = []
    for kind in (2, 3):  # ET_EXEC, ET_DYN
        content[16:18] = kind.to_bytes(2, "little")
        program = tmp_path / "python"
        program.write_bytes(content)
        facts.append(read_elf(program).position_independent)
    assert facts == [False, True]
    assert read_elf(program).interpreter


@pytest.mark.parametrize("content", [b"", b"\x7fELF", b"\x7fELF" + bytes(60), b"\x7fELF" + b"\xff" * 200])
def test_a_damaged_program_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "damaged").write_bytes(content)
    with pytest.raises(ImageInvalid):
        read_elf(tmp_path / "damaged")


def test_versions() -> None:
    assert parse_version("2.35") == OCCLUM_GLIBC
    for wrong in ("", "2", "2.x", "2.35.1", "-2.35"):
        with pytest.raises(OcclumRefuses):
            parse_version(wrong)


def test_entry_point_is_allowed_and_environment_is_the_images() -> None:
    configuration = read_configuration()
    assert configuration["entry_points"] == list(ENTRY_POINT)


def test_software_bill_is_valid_cyclonedx_and_complete(image: Path) -> None:
    text = (image / SBOM).read_text()
    assert JsonStrictValidator(SchemaVersion.V1_6).validate_str(text) is None
    components = {component["name"]: component for component in json.loads(text)["components"]}
    for distribution in runtime_distributions():
        assert components[distribution.metadata["Name"]]["version"] == distribution.version
    assert {"cpython", "chiron.runtime", "chiron.ps", "libssl.so.3"} <= set(components)
    assert not {"torch", "pip", "setuptools"} & set(components)


def test_software_bill_is_the_same_every_time(image: Path) -> None:
    manifest = read_manifest(image)
    assert software_bill(manifest, runtime_distributions()) == (image / SBOM).read_text()
