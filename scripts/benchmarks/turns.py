"""Turns of a benchmark: processes that speak JSON lines, started for one measurement and ended after it."""

import json
import os
import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path
from typing import IO, Any, cast

import trustme

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent
MOST_TRAINERS = 4


class Peer:
    """One process of a turn; speaks JSON lines."""

    def __init__(self, stack: ExitStack, command: list[str], options: dict[str, Any], **extra: str) -> None:
        # One thread a process is ours to give: NumPy's own pool would come on top.
        environment = {**os.environ, "PYTHONPATH": str(ROOT), "OPENBLAS_NUM_THREADS": "1", **extra}
        self._process = stack.enter_context(
            subprocess.Popen(
                [*command, json.dumps(options)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
                cwd=ROOT,
                env=environment,
            )
        )
        stack.callback(self._process.kill)

    def hear(self) -> dict[str, Any]:
        """The next JSON line."""
        line = cast("IO[str]", self._process.stdout).readline()
        if not line:
            raise RuntimeError("a benchmark process ended early")
        heard: dict[str, Any] = json.loads(line)
        return heard

    def say(self) -> None:
        """Let it go on."""
        pipe = cast("IO[str]", self._process.stdin)
        pipe.write("\n")
        pipe.flush()


def module(name: str, role: str) -> list[str]:
    """The command of a role of a module beside this one."""
    return [sys.executable, "-m", f"scripts.benchmarks.{name}", role]


def ours(role: str) -> list[str]:
    """The command of one of the job's processes."""
    return module("chiron_peers", role)


def chiron_turn(options: dict[str, Any], trainers: int) -> dict[str, Any]:
    """A job with so many trainers: the slowest one's time, the largest one's memory."""
    with ExitStack() as stack:
        settings = {**options, "trainers": trainers}
        server = Peer(stack, ours("serve"), settings)
        settings["port"] = server.hear()["ready"]
        peers = [Peer(stack, ours("train"), {**settings, "index": index}) for index in range(trainers)]
        for peer in peers:
            peer.hear()
        for peer in peers:
            peer.say()
        heard = [peer.hear() for peer in peers]
        server.say()
    return {
        "seconds": max(told["seconds"] for told in heard),
        "cpu_seconds": sum(told["cpu_seconds"] for told in heard),
        "peak_mib": max(told["peak_mib"] for told in heard),
        "examples": heard[0]["examples"],
    }


def single_turn(command: list[str], options: dict[str, Any], **extra: str) -> dict[str, Any]:
    """One process, warmed up, then timed; `extra` are environment variables."""
    with ExitStack() as stack:
        peer = Peer(stack, command, options, **extra)
        peer.hear()
        peer.say()
        return peer.hear()


def certificates(directory: Path) -> None:
    """A CA, the server's certificate and one for each trainer, as PEM files."""
    authority = trustme.CA()
    authority.cert_pem.write_to_path(str(directory / "ca.pem"))
    leaves = {"server": authority.issue_cert("127.0.0.1")}
    for index in range(MOST_TRAINERS):
        name = f"trainer-{index}"
        leaves[name] = authority.issue_cert(f"{name}.test", common_name=name)
    for name, leaf in leaves.items():
        leaf.private_key_and_cert_chain_pem.write_to_path(str(directory / f"{name}.pem"))
