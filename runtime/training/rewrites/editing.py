"""A graph's nodes while a pass works on them, and the shape of every value.

What the engine itself infers loses the batch at a Reshape. The gradient builder then sums and reshapes
gradients over axes that it finds out about in every step. So every shape is declared.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import GraphProto, ModelProto, NodeProto, TensorProto, ValueInfoProto, helper, numpy_helper
from onnx.shape_inference import infer_shapes

from chiron.runtime.training.graphs import OWN

Shape = tuple[int | str, ...]
BATCH = "N"
_SIZES = (4, 11)
"""Batches to infer shapes for: two sizes of a dimension tell whether it is the batch."""
Dims = tuple[int, ...]


@dataclass
class Rewriting:
    """A graph's nodes while passes work on them."""

    nodes: list[NodeProto]
    shapes: Mapping[str, tuple[int, ...]]
    """Shapes that inference knows; 0 stands for a dimension that it does not (the batch)."""
    kept: frozenset[str]
    """The graph's outputs: they must stay."""
    batched: frozenset[str]
    """Values whose first dimension is the batch."""
    values: Mapping[str, NDArray[Any]]
    """Values of the graph's constants."""
    opset: int
    types: Mapping[str, int]
    """ONNX's element types."""
    constants: list[TensorProto] = field(default_factory=list)
    count: int = 0
    changes: list[tuple[NodeProto, list[NodeProto]]] = field(default_factory=list)
    """Each node that was replaced, with what stands in its place."""

    def name(self) -> str:
        """A fresh value's."""
        self.count += 1
        return f"{OWN}r{self.count}"

    def constant(self, value: Any, dtype: type[np.generic]) -> str:
        """A fresh constant's."""
        self.constants.append(numpy_helper.from_array(np.asarray(value, dtype), self.name()))
        return str(self.constants[-1].name)

    def named_shape(self, name: str) -> Shape | None:
        """A value's shape with the batch by name; None if any dimension is unknown."""
        shape: Shape = self.shapes.get(name, (0,))
        if name in self.batched:
            shape = (BATCH, *shape[1:])
        return shape if all(shape) else None

    def users(self) -> Counter[str]:
        """The number of inputs (and outputs of the graph) that each value is."""
        return Counter(name for node in self.nodes for name in node.input) + Counter(self.kept)

    def add(
        self, op_type: str, inputs: Iterable[str], domain: str = "", **attributes: Any
    ) -> tuple[NodeProto, str]:
        """A node that makes one fresh value."""
        output = self.name()
        return helper.make_node(op_type, list(inputs), [output], domain=domain, **attributes), output

    def step(self, nodes: list[NodeProto], op_type: str, *inputs: str, **attributes: Any) -> str:
        """Add a node to `nodes`; the fresh value that it makes."""
        node, value = self.add(op_type, inputs, **attributes)
        nodes.append(node)
        return value

    def replace(self, change: Callable[[NodeProto], list[NodeProto] | None]) -> None:
        """Put what `change` gives in each node's place; None leaves it."""
        replaced: list[NodeProto] = []
        for node in self.nodes:
            new = change(node)
            if new is not None:
                self.changes.append((node, new))
            replaced.extend([node] if new is None else new)
        self.nodes = replaced


def rewrite_with(
    model: ModelProto, apply: Callable[[Rewriting], None]
) -> list[tuple[NodeProto, list[NodeProto]]]:
    """Apply one pass, in place; each node that was replaced, with what stands in its place."""
    graph = model.graph
    inferred = infer_shapes(model).graph
    found = (*inferred.input, *inferred.value_info, *inferred.output)
    dims = {value.name: value.type.tensor_type.shape.dim for value in found}
    types = {value.name: value.type.tensor_type.elem_type for value in found}
    types |= {tensor.name: tensor.data_type for tensor in graph.initializer}
    shapes = {name: tuple(dim.dim_value for dim in listed) for name, listed in dims.items()}
    shapes |= {tensor.name: tuple(tensor.dims) for tensor in graph.initializer}
    batched = frozenset(name for name, listed in dims.items() if listed and listed[0].dim_param == BATCH)
    kept = frozenset(value.name for value in graph.output)
    nodes = []
    for node in graph.node:
        copied = NodeProto()
        copied.CopyFrom(node)
        nodes.append(copied)
    values = {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.initializer}
    values |= {node.output[0]: _value(node) for node in graph.node if node.op_type == "Constant"}
    opset = next(used.version for used in model.opset_import if not used.domain)
    work = Rewriting(nodes, shapes, kept, batched, values, opset, types, count=_last_fresh(graph))
    apply(work)
    del graph.node[:]
    graph.node.extend(work.nodes)
    graph.initializer.extend(work.constants)
    return work.changes


def _value(node: NodeProto) -> NDArray[Any]:
    """What a Constant holds."""
    value = helper.get_attribute_value(node.attribute[0])
    if isinstance(value, TensorProto):
        return numpy_helper.to_array(value)
    return np.asarray(value, np.float32 if "float" in node.attribute[0].name else np.int64)


def _last_fresh(graph: GraphProto) -> int:
    """The greatest number in a fresh name of the passes before."""
    names = [name for node in graph.node for name in node.output] + [t.name for t in graph.initializer]
    numbers = (name.removeprefix(f"{OWN}r") for name in names if name.startswith(f"{OWN}r"))
    return max((int(number) for number in numbers if number.isdecimal()), default=0)


def declare_shapes(model: ModelProto) -> None:
    """Give every value between inputs and outputs its type and shape, with the batch by name, in place."""
    first, second = (_inferred(model, size) for size in _SIZES)
    del model.graph.value_info[:]
    for name, (element, dims) in first.items():
        other = second[name][1]
        if len(other) != len(dims):
            continue
        shape = [_dimension(*sizes) for sizes in zip(dims, other, strict=True)]
        model.graph.value_info.append(helper.make_tensor_value_info(name, element, shape))


def _dimension(first: int, second: int) -> int | str | None:
    if first == second:
        return first or None
    return BATCH if (first, second) == _SIZES else None


def shapes_for(model: ModelProto, batch: int) -> Mapping[str, Dims]:
    """Dimensions of every value that a node makes, for a batch of this size."""
    return {name: dims for name, (_, dims) in _inferred(model, batch).items()}


def _inferred(model: ModelProto, batch: int) -> Mapping[str, tuple[int, Dims]]:
    """Type and dimensions of every value that a node makes; 0 is one that is not known."""
    sized = ModelProto()
    sized.CopyFrom(model)
    del sized.graph.value_info[:]
    del sized.graph.output[:]
    for given in sized.graph.input:
        dims = given.type.tensor_type.shape.dim
        if dims and not dims[0].dim_value:
            dims[0].dim_value = batch
    values = infer_shapes(sized, data_prop=True).graph.value_info
    return {value.name: _described(value) for value in values if value.type.tensor_type.HasField("shape")}


def _described(value: ValueInfoProto) -> tuple[int, Dims]:
    tensor = value.type.tensor_type
    return tensor.elem_type, tuple(dim.dim_value for dim in tensor.shape.dim)
