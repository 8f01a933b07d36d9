"""`scripts/verify_attestation.py --url`: an auditor asks the real gateway, apart from the client."""

import asyncio
import json
import os
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from chiron.enclave_image.recording import Recorder
from chiron.enclave_image.transparency_log import TransparencyLog
from chiron.wire.public_api import ImageInfo
from tests.support.owners_world import World
from tests.support.tee import MEASUREMENT

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
        assert (code, told["verified"], len(told["steps"])) == (0, True, 12)
        code, told = await _run(world, job.spec.job, "--mrenclave", "0" * 64)
        assert (code, told["refused"]) == (20, "measurement")
        assert (await _run(world, "f" * 32, *accepted))[0] == 3
        assert (await _run(world, job.spec.job, *accepted, key="wrong"))[0] == 3


async def test_gateways_proof_of_inclusion_is_used_where_the_policy_demands_the_log(world: World) -> None:
    """The policy names the log's key and has no proof; the key decides, not who hands the proof over."""
    key, other = Ed25519PrivateKey.generate(), Ed25519PrivateKey.generate()
    log = world.directory / "log"
    TransparencyLog.create(log, key.public_key().public_bytes_raw())
    recorder = Recorder(log, key, "a" * 40, "0" * 64)
    proof = recorder.record(MEASUREMENT.hex(), world.directory, datetime.now(UTC))
    encrypted = world.encrypt()
    async with world.client() as client:
        job = await client.create_job(world.request(await client.upload_dataset(encrypted.bundle)))
        await client.verify_job(job)
    for trusted, offered, step in (
        (key, proof, None),
        (key, None, "transparency"),
        (other, proof, "transparency"),
    ):
        world.launcher.images = (ImageInfo(measurement=MEASUREMENT.hex(), proof=offered),)
        policy = world.directory / "policy.toml"
        policy.write_text(
            f'measurements = ["{MEASUREMENT.hex()}"]\n[transparency]\n'
            f'log_public_key = "{trusted.public_key().public_bytes_raw().hex()}"\n'
        )
        code, told = await _run(world, job.spec.job, "--policy", str(policy))
        assert (code, told["refused"]) == (0 if step is None else 21, step)
