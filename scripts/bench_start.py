"""How soon the command starts: processor time of what people wait for, beside what Typer and rich take alone.

    python scripts/bench_start.py [--runs 7] [--json]

Measured in turns, medians of all runs: the machine's other work then falls on all alike. Linux only: the
time until a connection is read out of /proc.
"""

import argparse
import json
import os
import resource
import socket
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path

ALONE = "import typer, rich"
BAR = 3.0
"""Times `ALONE` that each may take."""
CONNECT_TIMEOUT_S = 60


def main() -> int:
    """Run the benchmark; 0 if everything is within the bar."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--runs", type=int, default=7, help="measurements of each")
    parser.add_argument("--json", action="store_true", help="print one JSON object as the last line")
    options = parser.parse_args()
    measured = measure(options.runs)
    alone = measured[ALONE]
    for name, seconds in measured.items():
        print(f"{seconds:8.3f} s  {seconds / alone:5.2f} ×  {name}")
    if options.json:
        print(json.dumps({"runs": options.runs, "bar": BAR, "cpu_s": measured}))
    return 0 if all(seconds <= BAR * alone for seconds in measured.values()) else 1


def measure(runs: int) -> dict[str, float]:
    """Median processor seconds of each."""
    chiron = [sys.executable, "-m", "chiron"]
    with tempfile.TemporaryDirectory(prefix="chiron-") as home:
        environment = os.environ | {"CHIRON_HOME": home, "CHIRON_API_KEY": "none"}
        what: dict[str, Callable[[], float]] = {
            ALONE: lambda: to_the_end([sys.executable, "-c", ALONE], environment),
            "chiron --help": lambda: to_the_end([*chiron, "--help"], environment),
            "chiron job list --help": lambda: to_the_end([*chiron, "job", "list", "--help"], environment),
            "chiron predict …, until it connects": lambda: until_connected(
                [*chiron, "predict", "1c0e", "rows.npz"], environment
            ),
        }
        seconds: dict[str, list[float]] = {name: [] for name in what}
        for _ in range(runs):
            for name, measured in what.items():
                seconds[name].append(measured())
    return {name: round(statistics.median(values), 4) for name, values in seconds.items()}


def to_the_end(command: list[str], environment: Mapping[str, str]) -> float:
    """Processor seconds of a command."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run(command, env=environment, stdout=subprocess.DEVNULL, check=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def until_connected(command: list[str], environment: Mapping[str, str]) -> float:
    """Processor seconds of a command until its connection arrives, where it expects the gateway."""
    with socket.create_server(("127.0.0.1", 0)) as gateway:
        gateway.settimeout(CONNECT_TIMEOUT_S)
        url = f"http://127.0.0.1:{gateway.getsockname()[1]}"
        process = subprocess.Popen(
            command,
            env={**environment, "CHIRON_URL": url},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        try:
            connection, _ = gateway.accept()
            taken = _taken(process.pid)
            connection.close()
        finally:
            process.kill()
            process.wait()
    return taken


def _taken(pid: int) -> float:
    """Processor seconds of a process's threads so far (schedstat: nanoseconds on a processor)."""
    tasks = Path(f"/proc/{pid}/task").glob("*/schedstat")
    return sum(int(task.read_text().split()[0]) for task in tasks) / 1e9


if __name__ == "__main__":
    sys.exit(main())
