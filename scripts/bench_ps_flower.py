"""Flower's federated round with one float32 array, over gRPC with TLS: what scripts/bench_ps.py compares to.

Runs in an environment that has `flwr`; prints {"ms": milliseconds a round} as its last line. A round is what
an exchange is: the server sends the array to every client, each sends one back, FedAvg averages them. The
clients do nothing to it.
"""

import json
import os
import socket
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

os.environ["FLWR_TELEMETRY_ENABLED"] = "0"

import flwr as fl
import numpy as np


class Returning(fl.client.NumPyClient):  # type: ignore[misc]
    """Sends back what it gets."""

    def fit(self, parameters: list[Any], config: dict[str, Any]) -> tuple[list[Any], int, dict[str, Any]]:
        """No training: only the round trip counts."""
        return parameters, 1, {}


class Timed(fl.server.strategy.FedAvg):  # type: ignore[misc]
    """FedAvg that notes when each round begins."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.began: list[float] = []

    def configure_fit(self, *arguments: Any, **options: Any) -> Any:
        """A round begins."""
        self.began.append(time.perf_counter())
        return super().configure_fit(*arguments, **options)


def run_client(options: dict[str, Any]) -> None:
    """One client, until the server says goodbye."""
    fl.client.start_client(
        server_address=f"127.0.0.1:{options['port']}",
        client=Returning().to_client(),
        root_certificates=Path(options["directory"], "ca.pem").read_bytes(),
        max_wait_time=60.0,
    )


def run_server(options: dict[str, Any]) -> None:
    """The server and its clients; the median over the rounds after the first."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        options["port"] = probe.getsockname()[1]
    directory = Path(options["directory"])
    chain = directory.joinpath("server.pem").read_bytes()
    key_end = chain.index(b"-----BEGIN CERTIFICATE")
    vector = np.random.default_rng(0).normal(size=options["parameters"]).astype(np.float32)
    clients = options["clients"]
    strategy = Timed(
        fraction_fit=1.0,
        fraction_evaluate=0.0,
        min_fit_clients=clients,
        min_available_clients=clients,
        initial_parameters=fl.common.ndarrays_to_parameters([vector]),
    )
    command = [sys.executable, __file__, "client", json.dumps(options)]
    processes = [subprocess.Popen(command, stderr=subprocess.DEVNULL) for _ in range(clients)]
    try:
        fl.server.start_server(
            server_address=f"127.0.0.1:{options['port']}",
            config=fl.server.ServerConfig(num_rounds=options["rounds"] + 2),
            strategy=strategy,
            certificates=(directory.joinpath("ca.pem").read_bytes(), chain[key_end:], chain[:key_end]),
        )
    finally:
        for process in processes:
            process.kill()
    between = [
        later - earlier for earlier, later in zip(strategy.began[1:], strategy.began[2:], strict=False)
    ]
    print(json.dumps({"ms": statistics.median(between) * 1000, "rounds": len(between)}))


if __name__ == "__main__":
    if sys.argv[1] == "client":
        run_client(json.loads(sys.argv[2]))
    else:
        run_server(json.loads(sys.argv[1]))
