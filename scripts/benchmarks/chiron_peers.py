"""Processes of bench_training.py that are not torch's: role and JSON options as arguments, JSON lines out.

prepare   writes the job: component, encrypted chunks, specs, and the graph for PyTorch
serve     the parameter server, over mutual TLS 1.3
train     one trainer: sandboxed builder (trainer 0), decryption, training, exchanges, sealed reports
plain     onnxruntime-training's own Module and Optimizer on the same graph, without any of that
"""

import asyncio
import importlib
import json
import os
import resource
import ssl
import sys
import tempfile
import time
import types
from pathlib import Path
from typing import Any

import aiohttp
import numpy as np
import onnx
import onnxruntime
from aiohttp import web

from chiron.ps.client import ParameterClient
from chiron.ps.routes import exchange_routes
from chiron.ps.server import ParameterServer
from chiron.runtime.engine.supply import Engines
from chiron.runtime.reports import seal_report
from chiron.runtime.roles.plan import decode_plan, read_plan
from chiron.runtime.roles.trial_run import Supply, TrialRun
from chiron.runtime.sealing import hpke
from chiron.runtime.training.layout import FlatLayout
from chiron.runtime.training.seeds import Seeds
from chiron.runtime.training.sessions import initial_values
from chiron.wasm_sandbox.capability_data import CapabilityData, DatasetShape
from chiron.wasm_sandbox.sandbox import Sandbox
from chiron.wire.contract import CapabilityGrants
from chiron.wire.jobs import SUMS, JobSpec, plan_bytes
from scripts.benchmarks import models
from scripts.benchmarks.in_process import LocalEngines
from scripts.benchmarks.job import admitted_plan, make_job, open_dataset, read_spec, write_for_torch


def say(**message: Any) -> None:
    """One JSON line."""
    print(json.dumps(message), flush=True)


def hear() -> None:
    """Wait for a line."""
    sys.stdin.readline()


def processor_seconds() -> float:
    """What this process has used, and the engine's."""
    ticks = sum(sum(map(int, place.joinpath("stat").read_text().split()[13:15])) for place in _children())
    return time.process_time() + ticks / os.sysconf("SC_CLK_TCK")


def measured(began: float, used: float) -> dict[str, float]:
    """What a turn took, the engine's process included."""
    own = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return {
        "seconds": time.perf_counter() - began,
        "cpu_seconds": processor_seconds() - used,
        "peak_mib": own + sum(map(_peak_mib, _children())),
    }


def _children() -> list[Path]:
    return [Path("/proc", child) for child in Path("/proc/thread-self/children").read_text().split()]


def _peak_mib(process: Path) -> float:
    lines = process.joinpath("status").read_text().splitlines()
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith("VmHWM:"))


def prepare(options: dict[str, Any]) -> None:
    """Write the job."""
    directory, model = Path(options["directory"]), options["model"]
    drawn = models.plan(model, {"epochs": 1, "batch_size": options["batch"]})
    x, y = models.examples(model, options["examples"])
    # The envelope is as wide as the model: what padding costs is the owner's and the operator's choice.
    terms: dict[str, Any] = {"exchanges": options["exchanges"], "seed": 1, "validation_percent": 0}
    terms |= {"trainers": options.get("counts", (1, 2)), "parameters": models.parameters(model)}
    make_job(directory, drawn, x, y, classes=models.CLASSES, chunk=max(64, len(x) // 8), **terms)
    write_for_torch(directory, drawn, read_spec(directory, 1), x, y)
    say(parameters=models.parameters(model))


def _tls(directory: Path, name: str, purpose: int) -> ssl.SSLContext:
    context = ssl.SSLContext(purpose)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.check_hostname = False
    context.verify_mode = ssl.CERT_REQUIRED
    context.load_cert_chain(directory / f"{name}.pem")
    context.load_verify_locations(directory / "ca.pem")
    return context


def _index(request: web.Request) -> int:
    transport = request.transport
    if transport is None:
        raise web.HTTPForbidden
    subject = dict(field[0] for field in transport.get_extra_info("peercert")["subject"])
    return int(subject["commonName"].removeprefix("trainer-"))


async def serve(options: dict[str, Any]) -> None:
    """Until a line comes."""
    directory = Path(options["directory"])
    spec = read_spec(directory, options["trainers"])
    app = web.Application()
    app.add_routes(exchange_routes(ParameterServer(spec.exchange, plan_bytes(spec), sums=SUMS), _index))
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    context = _tls(directory, "server", ssl.PROTOCOL_TLS_SERVER)
    await web.TCPSite(runner, "127.0.0.1", 0, ssl_context=context).start()
    say(ready=runner.addresses[0][1])
    await asyncio.to_thread(hear)
    await runner.cleanup()


async def train(options: dict[str, Any]) -> None:
    """A trainer's whole job but for attestation and storage, as `chiron.runtime.roles.trainer` has it."""
    engines = Engines()
    try:
        await _train(options, LocalEngines() if options.get("in_process") else engines)
    finally:
        engines.end()


async def _train(options: dict[str, Any], engines: Supply) -> None:
    directory, index = Path(options["directory"]), options["index"]
    spec = read_spec(directory, options["trainers"])
    dataset = open_dataset(directory, spec)
    owner = hpke.PrivateKey.generate().public_bytes
    context = _tls(directory, f"trainer-{index}", ssl.PROTOCOL_TLS_CLIENT)
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(ssl=context)) as session:
        url = f"https://127.0.0.1:{options['port']}"
        client = ParameterClient(session, url, spec.exchange, plan_bytes(spec), sums=SUMS)
        run = TrialRun(spec, 0, index, engines)
        if index == 0:
            published = await _lead(directory, spec, run)
            await client.publish(0, published, run.pushed()[0])
        start = await client.start(0)
        plan = decode_plan(spec, 0, start.plan)
        if index > 0 and plan is not None:
            await run.begin(plan)
        await run.adopt(start.vector)

        async def exchange(number: int) -> None:
            await run.train(dataset, number, spec.exchange.exchanges)
            merged = await client.exchange(number, *run.pushed())
            await run.take(number, merged)
            if index == 0:
                seal_report(run.report, job=spec.job, owner_public_key=owner)

        # The first exchange warms up, as the others' first step does. It is also the one that reads the data,
        # so the data is read and decrypted once more where the time counts.
        await exchange(0)
        warm = run.steps
        say(ready=True)
        await asyncio.to_thread(hear)
        began, used = time.perf_counter(), processor_seconds()
        async for _ in dataset.read(dataset.partition(index, options["trainers"])):
            pass
        for number in range(1, spec.exchange.exchanges):
            await exchange(number)
        if not run.usable:
            raise RuntimeError(f"the run ended with {run.failure}")
        taken = measured(began, used)
        if index == 0 and options.get("keep"):
            (directory / "model.onnx").write_bytes(await run.export())
        say(**taken, examples=(run.steps - warm) * options.get("batch", 1))


async def _lead(directory: Path, spec: JobSpec, run: TrialRun) -> bytes:
    component = (directory / "builder.wasm").read_bytes()
    dataset = spec.dataset
    shape = DatasetShape(dataset.examples, dataset.input_shape, dataset.target_shape, dataset.classes)
    terms = (spec.build_request(), CapabilityGrants(), CapabilityData(shape))
    raw = await asyncio.to_thread(Sandbox().build, component, *terms, seed=spec.seed)
    plan = read_plan(spec, 0, raw.graph, raw.recipe)
    await run.begin(plan)
    return plan.published


def _training_api() -> tuple[Any, Any]:
    """onnxruntime.training without the torch that its own __init__ imports (onnxruntime issue 22070)."""
    package = types.ModuleType("onnxruntime.training")
    package.__path__ = [str(Path(onnxruntime.__file__).parent / "training")]
    sys.modules["onnxruntime.training"] = package
    return (
        importlib.import_module("onnxruntime.training.artifacts"),
        importlib.import_module("onnxruntime.training.api"),
    )


def plain(options: dict[str, Any]) -> None:
    """Module and Optimizer over generated artifacts, AdamW, one thread."""
    directory = Path(options["directory"])
    module, adapt = _artifacts(directory, options)
    arrays = np.load(directory / "torch.npz")
    x, y, batch = arrays["x"], arrays["y"], options["batch"]

    def step(start: int) -> None:
        module(x[start : start + batch], y[start : start + batch])
        adapt.step()
        module.lazy_reset_grad()

    step(0)
    say(ready=True)
    hear()
    began, used = time.perf_counter(), processor_seconds()
    for start in range(0, len(x), batch):
        step(start)
    say(**measured(began, used), examples=len(x))


def _artifacts(directory: Path, options: dict[str, Any]) -> tuple[Any, Any]:
    artifacts, api = _training_api()
    onnxruntime.set_default_logger_severity(3)
    spec = read_spec(directory, 1)
    drawn = models.plan(options["model"], {"epochs": 1, "batch_size": options["batch"]})
    admitted, _ = admitted_plan(drawn, spec)
    layout = FlatLayout(admitted.parameters)
    values = layout.views(initial_values(admitted, layout, Seeds(1, 0, 0)))
    model = admitted.with_values(values)
    model.ir_version = 9
    for node in model.graph.node:
        if node.op_type == "BatchNormalization":
            node.attribute.append(onnx.helper.make_attribute("training_mode", 1))
            node.output.extend([f"{node.name}{node.output[0]}.mean", f"{node.name}{node.output[0]}.variance"])
    trained = [p.name for p in admitted.parameters if p.trainable]
    frozen = [p.name for p in admitted.parameters if not p.trainable]
    with tempfile.TemporaryDirectory() as place:
        artifacts.generate_artifacts(
            model,
            requires_grad=trained,
            frozen_params=frozen,
            loss=artifacts.LossType.CrossEntropyLoss,
            optimizer=artifacts.OptimType.AdamW,
            artifact_directory=place,
        )
        for path in Path(place).glob("*.onnx"):
            made = onnx.load(path)
            made.ir_version = 9
            onnx.save(made, path)
        settings = onnxruntime.SessionOptions()
        settings.intra_op_num_threads = options["threads"]
        settings.log_severity_level = 3
        state = api.CheckpointState.load_checkpoint(f"{place}/checkpoint")
        module = api.Module(f"{place}/training_model.onnx", state, session_options=settings)
        module.train()
        return module, api.Optimizer(f"{place}/optimizer_model.onnx", module)


if __name__ == "__main__":
    role, given = sys.argv[1], json.loads(sys.argv[2])
    if role in ("serve", "train"):
        asyncio.run({"serve": serve, "train": train}[role](given))
    else:
        {"prepare": prepare, "plain": plain}[role](given)
