"""What an enclave of the local launcher can see and do: looked at from within."""

import asyncio
import json
import socket
from pathlib import Path
from typing import Any

import pytest

from chiron.enclave_image.manifest import read_manifest
from chiron.wire.launch import LAUNCH_VARIABLE
from tests.launchers.conftest import TOKEN, order, probing
from tests.support.specs import JOB, OTHER_JOB

LOOK_AROUND = """
import ctypes, json, os, resource, socket, sys

def refused(act):
    try:
        act()
    except OSError as error:
        return error.strerror
    return None

def wrote(path):
    return refused(lambda: open(path, "w").write("x"))

libc = ctypes.CDLL(None, use_errno=True)
status = dict(line.rstrip("\\n").split(":\\t", 1) for line in open("/proc/self/status") if ":\\t" in line)
descriptors = [f"/proc/self/fd/{name}" for name in os.listdir("/proc/self/fd")]
port = PORT
print(json.dumps({
    "environment": dict(os.environ),
    "top": sorted(os.listdir("/")),
    "processes": [name for name in os.listdir("/proc") if name.isdigit()],
    "descriptors": [os.readlink(path).split(":")[0] for path in descriptors if os.path.lexists(path)],
    "interfaces": [name for _, name in socket.if_nameindex()],
    "internet": refused(lambda: socket.create_connection(("192.0.2.1", 80), 2)),
    "host": refused(lambda: socket.create_connection(("127.0.0.1", port), 2)),
    "abstract": refused(lambda: socket.socket(socket.AF_UNIX).connect(chr(0) + f"chiron-test-{port}")),
    "gateway": refused(lambda: socket.socket(socket.AF_UNIX).connect("/run/chiron/gateway.sock")),
    "tee": refused(lambda: socket.socket(socket.AF_UNIX).connect("/run/chiron/tee.sock")),
    "write_root": wrote("/opt/chiron/x"),
    "write_run": wrote("/run/x"),
    "write_launch": wrote("/run/chiron/launch.json"),
    "write_sys": wrote("/proc/sys/kernel/core_pattern"),
    "write_sysrq": wrote("/proc/sysrq-trigger"),
    "write_tmp": wrote("/tmp/x"),
    "fill_tmp": refused(lambda: open("/tmp/y", "wb").write(bytes(2**25))),
    "capabilities": [status[name] for name in ("CapPrm", "CapEff", "CapInh", "CapAmb")],
    "no_new_privileges": status["NoNewPrivs"],
    "user": os.getuid(),
    "new_user_namespace": libc.unshare(0x10000000),
    "mount": libc.mount(b"none", b"/tmp", b"tmpfs", 0, None),
    "core": resource.getrlimit(resource.RLIMIT_CORE),
    "hostname": socket.gethostname(),
    "command_line": open("/proc/self/cmdline").read(),
    "launch": json.load(open("/run/chiron/launch.json")),
}))
"""


@pytest.fixture(scope="module")
def host_port() -> Any:
    """A service of the host, on its loopback and in its abstract socket namespace."""
    with socket.create_server(("127.0.0.1", 0)) as listener, socket.socket(socket.AF_UNIX) as abstract:
        port = listener.getsockname()[1]
        abstract.bind(f"\0chiron-test-{port}")
        abstract.listen()
        yield port


@pytest.fixture(scope="module")
def seen(bare_image: Path, host_port: int, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """All that a probe saw."""

    async def look() -> Any:
        program = LOOK_AROUND.replace("PORT", str(host_port))
        async with probing(bare_image, tmp_path_factory.mktemp("c"), program) as probed:
            return await probed.result()

    found = asyncio.run(look())
    assert isinstance(found, dict)
    return found


def test_sees_the_image_and_no_file_of_the_host(seen: dict[str, Any], bare_image: Path) -> None:
    assert seen["top"] == sorted(path.name for path in (bare_image / "root").iterdir())


def test_sees_no_process_but_itself(seen: dict[str, Any]) -> None:
    assert seen["processes"] == ["1"]


def test_inherits_no_descriptor_of_the_gateway(seen: dict[str, Any]) -> None:
    assert set(seen["descriptors"]) <= {"/dev/null", "pipe"}


def test_has_the_measured_environment_and_the_launch_variable_only(
    seen: dict[str, Any], bare_image: Path
) -> None:
    launch = {LAUNCH_VARIABLE: "@/run/chiron/launch.json"}
    assert seen["environment"] == read_manifest(bare_image).environment | launch


def test_its_launch_specification_is_complete_and_its_token_is_in_no_argument(seen: dict[str, Any]) -> None:
    assert seen["launch"]["job"] == JOB
    assert seen["launch"]["gateway"]["token"] == TOKEN
    assert TOKEN not in seen["command_line"]


def test_reaches_no_network_but_its_own_loopback(seen: dict[str, Any]) -> None:
    assert seen["interfaces"] == ["lo"]
    assert seen["internet"] == "Network is unreachable"
    assert seen["host"] == "Connection refused"
    assert seen["abstract"] == "Connection refused"


def test_reaches_the_gateway_and_the_quoting_service(seen: dict[str, Any]) -> None:
    assert (seen["gateway"], seen["tee"]) == (None, None)


@pytest.mark.parametrize("place", ["root", "run", "launch", "sys"])
def test_cannot_write(seen: dict[str, Any], place: str) -> None:
    assert seen[f"write_{place}"] in ("Read-only file system", "Permission denied")


def test_cannot_trigger_the_kernels_emergency_keys(seen: dict[str, Any]) -> None:
    assert seen["write_sysrq"] in ("Read-only file system", "Permission denied", "No such file or directory")


def test_can_write_a_bounded_folder_in_memory(seen: dict[str, Any]) -> None:
    assert seen["write_tmp"] is None
    assert seen["fill_tmp"] == "No space left on device"


def test_has_no_privilege_and_no_way_to_one(seen: dict[str, Any]) -> None:
    assert {int(capability, 16) for capability in seen["capabilities"]} == {0}
    assert seen["no_new_privileges"] == "1"
    assert seen["user"] == 1000
    assert seen["new_user_namespace"] == -1
    assert seen["mount"] == -1


def test_leaves_no_core_dump(seen: dict[str, Any]) -> None:
    assert seen["core"] == [0, 0]


def test_does_not_learn_the_hosts_name(seen: dict[str, Any]) -> None:
    assert seen["hostname"] == "enclave"


SERVE = """
import socket
with socket.create_server(("127.0.0.1", 4321)) as listener:
    print("listening")
    listener.accept()[0].sendall(b"hello")
"""
CONNECT = """
import json, socket
try:
    print(json.dumps(socket.create_connection(("127.0.0.1", 4321), 5).recv(5).decode()))
except OSError as error:
    print(json.dumps(error.strerror))
"""


async def test_enclaves_of_one_job_share_a_loopback_and_those_of_another_do_not(
    bare_image: Path, short_path: Path
) -> None:
    branch = "import json\nif json.load(open('/run/chiron/launch.json'))['index']:\n"
    program = f"{branch}{_indented(CONNECT)}\nelse:\n{_indented(SERVE)}"
    async with probing(bare_image, short_path, program) as probed:
        server = await probed.launch()
        await probed.until_printed(server, "listening")
        stranger = await probed.launcher.launch(order(OTHER_JOB, index=1))
        assert await stranger.wait() == 0
        assert json.loads(probed.printed(stranger)) == "Connection refused"
        sibling = await probed.launcher.launch(order(JOB, index=1))
        assert await sibling.wait() == 0
        assert json.loads(probed.printed(sibling)) == "hello"
        assert await server.wait() == 0


def _indented(program: str) -> str:
    return "\n".join(f"    {line}" for line in program.splitlines())
