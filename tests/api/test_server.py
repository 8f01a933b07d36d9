"""`serve` as a process: it says when it is ready, and SIGTERM or SIGINT ends it and everything it started."""

import asyncio
import json
import signal
import sys
from pathlib import Path

import aiohttp
import pytest

PROGRAM = """
import asyncio, sys
from pathlib import Path
from chiron.api.monitoring import configure_logs
from chiron.api.server import serve
from chiron.api.settings import Settings
from tests.support.scripts import scripted

async def make(settings):
    return scripted(settings.socket_path)

def ready(running):
    print(running.url, running.first_keys.owner, flush=True)

configure_logs()
asyncio.run(serve(Settings(state_dir=Path(sys.argv[1]), port=0), make, ready=ready))
print("bye")
"""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_a_signal_stops_it_in_order(tmp_path: Path, number: signal.Signals) -> None:
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-c",
        PROGRAM,
        str(tmp_path),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    assert process.stdout is not None
    assert process.stderr is not None
    url, key = (await asyncio.wait_for(process.stdout.readline(), 20)).decode().split()
    async with aiohttp.ClientSession(headers={"Authorization": f"Bearer {key}"}) as session:
        async with session.get(f"{url}/v1/jobs") as response:
            assert await response.json() == {"items": [], "next": None}
        process.send_signal(number)
        out, err = await asyncio.wait_for(process.communicate(), 20)
    assert (process.returncode, out) == (0, b"bye\n")
    lines = [json.loads(line) for line in err.decode().splitlines()]
    assert [line["message"] for line in lines if line["logger"] == "chiron.api.server"] == [
        "gateway ready",
        "gateway stopping",
    ]
    assert key.split("_", 2)[2] not in err.decode()
    assert not (tmp_path / "gateway.sock").exists()
