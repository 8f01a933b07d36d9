"""Sessions of onnxruntime: over the flat vector in training, and of the exported model in prediction.

In training, parameters and gradients are read and written in place.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
import onnxruntime
from numpy.typing import NDArray
from onnx import ModelProto, helper
from onnxruntime import InferenceSession, IOBinding, SessionOptions

from chiron.runtime.training.errors import ENGINE_SILENT, Reason, TrainingFailed, failing_as
from chiron.runtime.training.graphs import INPUT, OUTPUT, ROWS_AT_ONCE
from chiron.runtime.training.layout import FlatLayout, Vector
from chiron.runtime.training.losses import LOSS, SCALE, TARGET, Targets
from chiron.runtime.training.seeds import Seeds
from chiron.runtime.training.training_model import TrainingModel
from chiron.wasm_sandbox.graph import AdmittedGraph
from chiron.wire.jobs import JobSpec

_CPU = ["CPUExecutionProvider"]
_RANDOM = frozenset({"RandomNormal", "RandomUniform"})
_SEED_BITS = 24
"""The operators' `seed` is a float32: whole numbers up to here are exact."""
_IR_VERSION = 9

onnxruntime.set_default_logger_severity(ENGINE_SILENT)


def session_options(threads: int) -> SessionOptions:
    """One graph at a time on `threads` threads that do not spin, and nothing logged."""
    options = SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = ENGINE_SILENT
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    return options


def _bind_in(binding: IOBinding, name: str, array: NDArray[Any]) -> None:
    binding.bind_input(name, "cpu", 0, array.dtype.type, array.shape, array.ctypes.data)


def _bind_out(binding: IOBinding, name: str, array: NDArray[Any]) -> None:
    binding.bind_output(name, "cpu", 0, array.dtype.type, array.shape, array.ctypes.data)


class GradientSession:
    """Runs a training model. `vector` and `gradient` [elements] must outlive it and not move."""

    def __init__(
        self, model: TrainingModel, layout: FlatLayout, vector: Vector, gradient: Vector, threads: int
    ) -> None:
        with failing_as(Reason.NOT_DIFFERENTIABLE):
            self._session = InferenceSession(model.onnx, session_options(threads), providers=_CPU)
        self._binding = self._session.io_binding()
        self._loss = np.zeros((), np.float32)
        self._buffers: dict[str, NDArray[Any]] = {}
        """Arrays bound for a batch: bound again only when the batch has another size."""
        self._keep = (vector, gradient)
        inputs = {value.name for value in self._session.get_inputs()}
        for name, view in layout.views(vector).items():
            if name in inputs:
                _bind_in(self._binding, name, view)
        gradients = layout.views(gradient)
        for name, output in model.gradients.items():
            _bind_out(self._binding, output, gradients[name])
        self.statistics = {name: np.empty_like(gradients[name]) for name in model.statistics}
        """New running statistics, by buffer, as of the last run."""
        for name, output in model.statistics.items():
            _bind_out(self._binding, output, self.statistics[name])
        _bind_out(self._binding, LOSS, self._loss)
        self._inputs = inputs

    def run(
        self, x: NDArray[Any], targets: Targets, masks: Mapping[str, NDArray[np.float32]]
    ) -> tuple[float, NDArray[np.float32]]:
        """Loss and outputs [n, …] of a batch; its gradient is written to `gradient`.

        The outputs are valid until the next run.
        """
        self._feed(INPUT, x)
        self._feed(TARGET, targets.values)
        self._feed(SCALE, targets.scale)
        for name, mask in masks.items():
            self._feed(name, mask)
        # Outputs have the targets' shape: class scores, or values.
        outputs = self._buffers.get(OUTPUT)
        if outputs is None or outputs.shape != targets.values.shape:
            outputs = self._buffers[OUTPUT] = np.empty_like(targets.values)
            _bind_out(self._binding, OUTPUT, outputs)
        self._session.run_with_iobinding(self._binding)
        return float(self._loss), outputs

    def _feed(self, name: str, array: NDArray[Any]) -> None:
        buffer = self._buffers.get(name)
        if buffer is None or buffer.shape != array.shape:
            buffer = self._buffers[name] = np.array(array, order="C")
            if name in self._inputs:
                _bind_in(self._binding, name, buffer)
        else:
            buffer[...] = array


class ForwardSession:
    """Runs a forward model whose parameters are inputs, on the same flat vector."""

    def __init__(self, model: bytes, layout: FlatLayout, vector: Vector, threads: int) -> None:
        with failing_as(Reason.ENGINE_FAILED):
            self._session = InferenceSession(model, session_options(threads), providers=_CPU)
        self._inputs = {value.name for value in self._session.get_inputs()}
        self._binding = self._session.io_binding()
        self._keep = vector
        for name, view in layout.views(vector).items():
            if name in self._inputs:
                _bind_in(self._binding, name, view)

    def run(self, x: NDArray[Any]) -> NDArray[np.float32]:
        """Outputs [n, …] of inputs [n, …]."""
        _bind_in(self._binding, INPUT, x)
        self._binding.bind_output(OUTPUT)
        self._session.run_with_iobinding(self._binding)
        outputs: NDArray[np.float32] = self._binding.get_outputs()[0].numpy()
        return outputs


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


class ExportedModel:
    """An exported inference model. It holds its own preprocessing and activation."""

    def __init__(self, onnx: bytes, spec: JobSpec, *, threads: int = 1) -> None:
        """Load an exported model.

        Raises:
            TrainingFailed: model-invalid.
        """
        self._dataset = spec.dataset
        with failing_as(Reason.MODEL_INVALID):
            self._session = InferenceSession(
                onnx, session_options(threads), providers=["CPUExecutionProvider"]
            )
            # The model was made and sealed by our own measurement; one that does not say is given row by row.
            said = self._session.get_modelmeta().custom_metadata_map
            self.rows_at_once = int(said.get(ROWS_AT_ONCE, "1"))

    def predict(self, x: NDArray[Any]) -> NDArray[np.float32]:
        """Answer for rows [n, *input_shape] in the dataset's input type.

        Returns:
            Class scores [n, classes], or values [n, *target_shape].

        Raises:
            TrainingFailed: model-invalid, where the model does not run on these rows.
        """
        dataset = self._dataset
        width = (dataset.classes,) if dataset.classes else dataset.target_shape
        answers = np.empty((len(x), *width), np.float32)
        with failing_as(Reason.MODEL_INVALID):
            for start in range(0, len(x), self.rows_at_once):
                rows = np.ascontiguousarray(x[start : start + self.rows_at_once], dataset.input_dtype.value)
                answers[start : start + self.rows_at_once] = self._session.run([OUTPUT], {INPUT: rows})[0]
        return answers
