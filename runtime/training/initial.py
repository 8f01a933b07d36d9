"""Initial values: the graph's own initialization, run with the job's seed in every random operator."""

import numpy as np
from onnx import ModelProto, helper
from onnxruntime import InferenceSession

from chiron.runtime.training.errors import Reason, TrainingFailed, failing_as
from chiron.runtime.training.layout import FlatLayout, Vector
from chiron.runtime.training.seeds import Seeds
from chiron.runtime.training.sessions import session_options
from chiron.wasm_sandbox.graph import AdmittedGraph

_RANDOM = frozenset({"RandomNormal", "RandomUniform"})
_SEED_BITS = 24
"""The operators' `seed` is a float32: whole numbers up to here are exact."""
_IR_VERSION = 9


def initial_values(graph: AdmittedGraph, layout: FlatLayout, seeds: Seeds) -> Vector:
    """The flat vector [elements] that training begins with.

    Raises:
        TrainingFailed: initialization-failed, also where a value is not finite.
    """
    model = ModelProto()
    model.CopyFrom(graph.initialization)
    model.ir_version = min(model.ir_version, _IR_VERSION)
    for number, node in enumerate(model.graph.node):
        if node.op_type in _RANDOM:
            kept = [attribute for attribute in node.attribute if attribute.name != "seed"]
            del node.attribute[:]
            seed = float(seeds.number("initial", number) % 2**_SEED_BITS)
            node.attribute.extend([*kept, helper.make_attribute("seed", seed)])
    with failing_as(Reason.INITIALIZATION_FAILED):
        session = InferenceSession(
            model.SerializeToString(), session_options(1), providers=["CPUExecutionProvider"]
        )
        names = [parameter.name for parameter in layout.parameters]
        vector = layout.pack(dict(zip(names, session.run(names, {}), strict=True)))
    if not np.isfinite(vector).all():
        raise TrainingFailed(Reason.INITIALIZATION_FAILED)
    return vector
