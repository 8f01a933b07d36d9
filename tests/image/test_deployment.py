"""Container file and Kubernetes manifests: valid by schema, true to what they start, and never run."""

import re
import shlex
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml

from chiron.cli.application import load
from chiron.enclave_image.occlum_configuration import in_bytes, read_configuration

FOLDER = Path(__file__).parents[2] / "enclave_image"
MANIFESTS = [
    manifest
    for file in sorted((FOLDER / "kubernetes").glob("*.yaml"))
    for manifest in yaml.safe_load_all(file.read_text())
]
CONTAINERFILE = (FOLDER / "Containerfile").read_text()


def of_kind(kind: str) -> dict[str, Any]:
    (found,) = [manifest for manifest in MANIFESTS if manifest["kind"] == kind]
    return dict(found)


def serve_options() -> set[str]:
    """Options of `chiron serve`."""
    return {name for parameter in load("serve").params for name in parameter.opts}


@pytest.mark.parametrize("manifest", MANIFESTS, ids=lambda manifest: manifest["kind"])
def test_manifest_follows_kubernetes_schema_strictly(manifest: dict[str, Any]) -> None:
    kubernetes_validate.validate(manifest, "1.31", strict=True)


def test_the_schema_would_notice_a_misspelt_key() -> None:
    deployment = of_kind("Deployment")
    deployment["spec"] = deployment["spec"] | {"replica": 1}
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(deployment, "1.31", strict=True)


def test_deployment_asks_for_sgx_and_for_no_privilege() -> None:
    pod = of_kind("Deployment")["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    limits = container["resources"]["limits"]
    assert {"sgx.intel.com/epc", "sgx.intel.com/enclave", "sgx.intel.com/provision"} <= set(limits)
    assert pod["securityContext"]["runAsNonRoot"]
    assert container["securityContext"]["capabilities"]["drop"] == ["ALL"]
    assert container["securityContext"]["readOnlyRootFilesystem"]
    assert not container["securityContext"]["allowPrivilegeEscalation"]
    assert not pod.get("hostNetwork")
    assert "privileged" not in container["securityContext"]


def test_enclave_memory_of_a_job_fits_into_what_is_asked_for() -> None:
    limits = of_kind("Deployment")["spec"]["template"]["spec"]["containers"][0]["resources"]["limits"]
    epc = int(limits["sgx.intel.com/epc"].removesuffix("Gi")) * 2**30
    resources = read_configuration()["resource_limits"]
    one = in_bytes(resources["user_space_max_size"]) + in_bytes(resources["kernel_space_heap_max_size"])
    assert 3 * one <= epc


def test_what_is_mounted_exists_and_labels_select_the_pod() -> None:
    deployment, service = of_kind("Deployment"), of_kind("Service")
    pod = deployment["spec"]["template"]
    names = {volume["name"] for volume in pod["spec"]["volumes"]}
    assert {mount["name"] for mount in pod["spec"]["containers"][0]["volumeMounts"]} == names
    assert service["spec"]["selector"] == pod["metadata"]["labels"]
    assert of_kind("NetworkPolicy")["spec"]["podSelector"]["matchLabels"] == pod["metadata"]["labels"]
    claims = {
        v["persistentVolumeClaim"]["claimName"]
        for v in pod["spec"]["volumes"]
        if "persistentVolumeClaim" in v
    }
    assert claims == {of_kind("PersistentVolumeClaim")["metadata"]["name"]}


def test_only_options_that_serve_has_are_used() -> None:
    arguments = of_kind("Deployment")["spec"]["template"]["spec"]["containers"][0]["args"]
    used = {argument.split("=")[0] for argument in arguments}
    used |= set(re.findall(r'"(--[a-z-]+)"', CONTAINERFILE.split("ENTRYPOINT")[1]))
    assert {"--launcher", "--instance", "--enclave-host"} <= used <= serve_options()


def test_container_file_gives_no_secret_to_a_layer_and_runs_as_no_root() -> None:
    assert "--mount=type=secret,id=signing-key" in CONTAINERFILE
    assert not re.search(r"^(ARG|ENV|COPY).*(key|KEY|pem)", CONTAINERFILE, re.MULTILINE)
    last_stage = CONTAINERFILE.rsplit("\nFROM ", 1)[1]
    assert re.search(r"^USER 1000$", last_stage, re.MULTILINE)


def test_container_file_uses_stages_and_commands_that_exist() -> None:
    stages = set(re.findall(r"^FROM \S+ AS (\S+)$", CONTAINERFILE, re.MULTILINE))
    assert set(re.findall(r"--from=(\S+)", CONTAINERFILE)) <= stages
    image_commands = load("image").commands  # type: ignore[attr-defined]
    for line in CONTAINERFILE.splitlines():
        if "chiron image" in line and not line.startswith("#"):
            words = shlex.split(line.rstrip("\\"))
            assert words[words.index("image") + 1] in image_commands
    assert (FOLDER.parent / "scripts/setup").exists()
