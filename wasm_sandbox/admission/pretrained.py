"""Parameters that begin as tensors which the component carries (`chiron.wasm_sandbox.assets`)."""

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray
from onnx import ModelProto, TensorProto, helper, numpy_helper
from safetensors import SafetensorError, deserialize

from chiron.wasm_sandbox.admission.codes import GraphCode, refused
from chiron.wasm_sandbox.admission.tensors import Tensors
from chiron.wasm_sandbox.assets import Assets

_Entries = list[tuple[str, Mapping[str, object]]]


def add_pretrained(
    initialization: ModelProto, tensors: Tensors, pretrained: Mapping[str, str], assets: Assets
) -> None:
    """Give each pretrained parameter its value in the initialization model.

    Args:
        initialization: the model to add to; each parameter becomes one more output.
        tensors: the graph's, for the parameters' shapes.
        pretrained: `file/tensor` by parameter.
        assets: what the component carries.

    Raises:
        GraphRefused: asset-unknown, asset-invalid.
    """
    shapes = {tensor.name: tuple(tensor.dims) for tensor in tensors.parameters}
    parsed: dict[str, _Entries] = {}
    graph = initialization.graph
    for name, reference in pretrained.items():
        value, inner = _tensor(assets, reference, shapes[name], parsed), f"·asset.{name}"
        graph.initializer.append(numpy_helper.from_array(value, inner))
        graph.node.append(helper.make_node("Identity", [inner], [name]))
        graph.output.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, shapes[name]))


def _tensor(
    assets: Assets, reference: str, shape: tuple[int, ...], parsed: dict[str, _Entries]
) -> NDArray[np.float32]:
    name, _, inner = reference.partition("/")
    if name not in assets.files:
        raise refused(GraphCode.ASSET_UNKNOWN, reference)
    if name not in parsed:
        parsed[name] = _entries(name, assets.files[name])
    for found, entry in parsed[name]:
        if found == inner:
            return _float32(entry, shape, reference)
    raise refused(GraphCode.ASSET_UNKNOWN, reference)


def _entries(name: str, content: bytes) -> _Entries:
    try:
        entries: _Entries = deserialize(content)  # type: ignore[no-untyped-call]
    except SafetensorError as error:
        raise refused(GraphCode.ASSET_INVALID, f"{name}: {error}") from None
    return entries


def _float32(entry: Mapping[str, object], shape: tuple[int, ...], reference: str) -> NDArray[np.float32]:
    data = entry["data"]
    if entry["dtype"] != "F32" or entry["shape"] != list(shape) or not isinstance(data, bytes | bytearray):
        raise refused(GraphCode.ASSET_INVALID, f"{reference} is {entry['dtype']} {entry['shape']}")
    value = np.frombuffer(data, "<f4").reshape(shape).astype(np.float32)
    if not np.isfinite(value).all():
        raise refused(GraphCode.ASSET_INVALID, f"{reference} is not finite")
    return value
