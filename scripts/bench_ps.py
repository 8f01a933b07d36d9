#!/usr/bin/env python3
"""How fast is an exchange? Against a raw TLS echo of the same bytes, and against Flower's gRPC round trip.

    python scripts/bench_ps.py --parameters 10000000 --clients 2 --json

Everything runs in processes of its own on this machine, over mutual TLS 1.3 on loopback. Ours and the echo
take turns, so that a busy machine slows both; each figure is the median over `--repeats` turns. The last line
of `--json` is one JSON object:

    exchange_ms             one exchange, all clients: push, merge, pull
    over_tls_echo           echo's time over ours: 1 is the wire's speed
    over_flower             Flower's time over ours (null where it was skipped)
    server_peak_mib         a server process's largest resident memory, and what it may be at most:
    server_bound_mib        idle process + 3 vectors (slices) + one frame a client
    loop_blocked_ms_max     the longest that the server's event loop served nothing else
"""

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
from contextlib import ExitStack
from pathlib import Path
from typing import IO, Any, cast

import trustme

HERE = Path(__file__).resolve().parent
PEERS = HERE / "bench_ps_peers.py"
FLOWER = HERE / "bench_ps_flower.py"
FLOWER_VENV = HERE.parent / ".venv-bench"
FLOWER_REQUIREMENT = "flwr>=1.20"
"""In an environment of its own: it needs protobuf < 7, and requirements.lock has 7 (docs/scaling.md)."""


class Peer:
    """One process of bench_ps_peers.py."""

    def __init__(self, stack: ExitStack, role: str, options: dict[str, Any]) -> None:
        command = [sys.executable, str(PEERS), role, json.dumps(options)]
        self._process = stack.enter_context(
            subprocess.Popen(
                command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=HERE.parent
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


def turn(kind: str, options: dict[str, Any], clients: int, rounds: int) -> dict[str, Any]:
    """The servers and their clients, `rounds` timed rounds: milliseconds a round, the most that servers say.

    An echo has one server, which returns the whole frame.
    """
    shards = options["spec"].get("shards", 1) if kind == "exchange" else 1
    with ExitStack() as stack:
        servers = [Peer(stack, f"serve-{kind}", {**options, "shard": shard}) for shard in range(shards)]
        ports = [server.hear()["ready"] for server in servers]
        peers = [
            Peer(stack, kind, {**options, "index": index, "ports": ports, "rounds": rounds})
            for index in range(clients)
        ]
        for peer in peers:
            peer.hear()
        for waiting in (*servers, *peers):
            waiting.say()
        told = [peer.hear() for peer in peers]
        for server in servers:
            server.say()
        said = [server.hear() for server in servers]
        result = {name: max(one[name] for one in said) for name in said[0]}
        result["ms"] = max(one["seconds"] for one in told) / rounds * 1000
        if kind == "exchange":
            # CPU time of one exchange, on the busiest server and on the median client.
            result["server_cpu_ms"] = result["cpu_seconds"] / rounds * 1000
            result["client_cpu_ms"] = statistics.median(one["cpu_seconds"] for one in told) / rounds * 1000
        return result


def certificates(directory: Path, clients: int) -> None:
    """A CA, the server's certificate and one for each client, as PEM files."""
    authority = trustme.CA()
    authority.cert_pem.write_to_path(directory / "ca.pem")
    authority.issue_cert("127.0.0.1", "localhost").private_key_and_cert_chain_pem.write_to_path(
        directory / "server.pem"
    )
    for index in range(clients):
        certificate = authority.issue_cert(f"peer-{index}.test", common_name=f"peer-{index}")
        certificate.private_key_and_cert_chain_pem.write_to_path(directory / f"client{index}.pem")


def flower_python() -> str:
    """An interpreter with Flower in it; made on first use."""
    python = FLOWER_VENV / "bin" / "python"
    if not python.exists():
        subprocess.run([sys.executable, "-m", "venv", FLOWER_VENV], check=True)
        subprocess.run([python, "-m", "pip", "install", "-q", FLOWER_REQUIREMENT], check=True)
    return str(python)


def flower_ms(directory: Path, parameters: int, clients: int, rounds: int) -> float:
    """Milliseconds of one of Flower's federated rounds with the same array."""
    options = {"directory": str(directory), "parameters": parameters, "clients": clients, "rounds": rounds}
    done = subprocess.run(
        [flower_python(), str(FLOWER), json.dumps(options)],
        check=False,
        capture_output=True,
        text=True,
        timeout=900,
    )
    if done.returncode != 0:
        raise RuntimeError(f"Flower ended with {done.returncode}:\n{done.stderr[-2000:]}")
    return float(json.loads(done.stdout.splitlines()[-1])["ms"])


def measure(arguments: argparse.Namespace, directory: Path) -> dict[str, Any]:
    """All figures of one setting."""
    spec = {
        "parameters": arguments.parameters,
        "trainers": arguments.clients,
        "exchanges": arguments.rounds + 1,
        "dtype": arguments.dtype,
        "shards": arguments.shards,
        "outer_learning_rate": 0.7,
        "outer_momentum": 0.9,
    }
    certificates(directory, arguments.clients)
    options = {"spec": spec, "directory": str(directory)}
    ours, limit = [], []
    for _ in range(arguments.repeats):
        ours.append(turn("exchange", options, arguments.clients, arguments.rounds))
        limit.append(turn("echo", options, arguments.clients, arguments.rounds))
    ms = statistics.median(result["ms"] for result in ours)
    echo = statistics.median(result["ms"] for result in limit)
    flower = None
    if not arguments.skip_flower:
        flower = flower_ms(directory, arguments.parameters, arguments.clients, arguments.rounds)
    vector_mib = 4 * arguments.parameters / arguments.shards / 2**20
    frame_mib = vector_mib / (2 if arguments.dtype == "bfloat16" else 1)
    idle = max(result["idle_mib"] for result in ours)
    return {
        "parameters": arguments.parameters,
        "clients": arguments.clients,
        "shards": arguments.shards,
        "dtype": arguments.dtype,
        "exchange_ms": round(ms, 1),
        "tls_echo_ms": round(echo, 1),
        "flower_ms": None if flower is None else round(flower, 1),
        "over_tls_echo": round(echo / ms, 3),
        "over_flower": None if flower is None else round(flower / ms, 2),
        "server_peak_mib": round(max(result["peak_mib"] for result in ours), 1),
        "server_bound_mib": round(idle + 3 * vector_mib + arguments.clients * frame_mib, 1),
        "loop_blocked_ms_max": round(max(result["loop_blocked_ms"] for result in ours), 1),
    }


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--parameters", type=int, default=10_000_000, help="float32 elements exchanged")
    parser.add_argument("--clients", type=int, default=2)
    parser.add_argument("--shards", type=int, default=1, help="servers that hold a slice of the vector each")
    parser.add_argument("--rounds", type=int, default=5, help="timed exchanges in each turn")
    parser.add_argument("--repeats", type=int, default=3, help="turns of ours and of the echo")
    parser.add_argument("--dtype", choices=("float32", "bfloat16"), default="float32")
    parser.add_argument("--skip-flower", action="store_true")
    parser.add_argument("--json", action="store_true", help="one JSON object as the last line")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as directory:
        result = measure(arguments, Path(directory))
    if arguments.json:
        print(json.dumps(result))
    else:
        for name, value in result.items():
            print(f"{name:22} {value}")


if __name__ == "__main__":
    main()
