"""`scripts/verify_attestation.py --url`: an auditor asks the real gateway, apart from the client."""

import asyncio
import json
import os
import sys
from pathlib import Path
from typing import Any

from tests.chiron.conftest import World
from tests.chiron.scripted_enclaves import MEASUREMENT

SCRIPT = Path(__file__).parents[2] / "scripts" / "verify_attestation.py"


async def _run(world: World, job: str, *options: str, key: str | None = None) -> tuple[int, dict[str, Any]]:
    root = world.directory / "root.pem"
    root.write_bytes(world.tee.root_pem)
    arguments = ["--url", world.running.url, "--job", job, "--trust-software-root", str(root), "--json"]
    environment = os.environ | {"CHIRON_API_KEY": key or world.owner_key}
    process = await asyncio.create_subprocess_exec(
        sys.executable, str(SCRIPT), *arguments, *options, stdout=asyncio.subprocess.PIPE, env=environment
    )
    out = (await process.communicate())[0]
    return process.returncode or 0, json.loads(out) if out else {}


async def test_running_jobs_evidence_is_fetched_over_a_fresh_nonce_and_verified(world: World) -> None:
    encrypted = world.encrypt()
    async with world.client() as client:
        dataset = await client.upload_dataset(encrypted.bundle)
        job = await client.create_job(world.request(dataset))
        await client.verify_job(job)  # waits until the enclave is there
        accepted = ("--mrenclave", MEASUREMENT.hex())
        code, told = await _run(world, job.spec.job, *accepted)
        assert (code, told["verified"], len(told["steps"])) == (0, True, 15)
        code, told = await _run(world, job.spec.job, "--mrenclave", "0" * 64)
        assert (code, told["refused"]) == (20, "measurement")
        assert (await _run(world, "f" * 32, *accepted))[0] == 3
        assert (await _run(world, job.spec.job, *accepted, key="wrong"))[0] == 3
