"""Enclaves whose clock jumps, and enclaves between which the network is slow: real processes, both."""

import os
import secrets
import shutil
import signal
import struct
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from chiron.wire.jobs import JobState, PublicFailure
from tests.faults.test_faults import TRAINER, expect_whole
from tests.support.faulty_host import EXCHANGES, FaultyHost

DAY_S = 86_400


class Clock:
    """The date that enclaves are told, by a library loaded before all others."""

    def __init__(self, host: FaultyHost, directory: Path) -> None:
        compiler = shutil.which("cc")
        if compiler is None:
            pytest.skip("no C compiler to make a clock that jumps")
        library, self._offset = directory / "clock.so", directory / "offset"
        source = Path(__file__).with_name("clock.c")
        subprocess.run([compiler, "-shared", "-fPIC", "-O1", "-o", library, source, "-ldl"], check=True)
        self.jump(0)
        host.launcher.backend.environment = {"LD_PRELOAD": str(library), "CLOCK_OFFSET": str(self._offset)}

    def jump(self, seconds: int) -> None:
        """From now on the enclaves' date is `seconds` off, in one write to the file that they map."""
        descriptor = os.open(self._offset, os.O_RDWR | os.O_CREAT)
        os.pwrite(descriptor, struct.pack("<q", seconds), 0)
        os.close(descriptor)


async def test_a_clock_that_jumps_stops_a_job_only_beyond_what_its_evidence_is_valid_for(
    host: FaultyHost, directory: Path
) -> None:
    """Forward by a week, then back behind the true time: trainers enrol by these dates, and the job goes on.

    By a date at which the collateral has expired nobody is let in: it ends with a fixed code.
    """
    clock = Clock(host, directory)
    job = await host.begin()
    for exchanges, seconds in ((3, 7 * DAY_S), (8, -30), (13, 400 * DAY_S)):
        await host.reach(job, exchanges)
        clock.jump(seconds)
        host.launcher.latest(TRAINER, 1).signal(signal.SIGKILL)
    ended = await host.ended(job)
    assert (ended.state, ended.failure) == (JobState.FAILED, PublicFailure.ATTESTATION_REFUSED), host.logs()
    assert 13 <= ended.exchanges_done < EXCHANGES


@contextmanager
def slow_network() -> Iterator[str]:
    """A network namespace whose loopback is slow: late and lossy where the kernel can, else narrow."""
    ip, tc, name = shutil.which("ip"), shutil.which("tc"), f"chiron-{secrets.token_hex(4)}"
    if ip is None or tc is None or not _done(ip, "netns", "add", name):
        pytest.skip("network namespaces cannot be made here")
    try:
        # A loopback's packets of 64 KiB are no link's, and larger than what a bucket holds.
        _done(ip, "-n", name, "link", "set", "lo", "mtu", "1500")
        slowly = [tc, "-n", name, "qdisc", "add", "dev", "lo", "root"]
        late = _done(*slowly, "netem", "delay", "10ms", "2ms", "loss", "0.5%", "rate", "20mbit")
        narrow = late or _done(*slowly, "tbf", "rate", "4mbit", "burst", "32kb", "latency", "300ms")
        if not narrow or not _done(ip, "-n", name, "link", "set", "lo", "up"):
            pytest.skip("links cannot be made slow here")
        yield name
    finally:
        _done(ip, "netns", "delete", name)


def _done(*command: str) -> bool:
    return subprocess.run(command, capture_output=True, check=False).returncode == 0


async def test_a_slow_network_between_enclaves_changes_nothing_but_the_time(host: FaultyHost) -> None:
    with slow_network() as name:
        host.launcher.backend.prefix = ("ip", "netns", "exec", name)
        job = await host.begin()
        await host.reach(job, 4)
        host.launcher.latest(TRAINER, 1).signal(signal.SIGKILL)
        await expect_whole(host, job)
