"""Shapes that overflow, vanish, or are not known before the graph has run."""

from onnx import ModelProto, TensorProto, helper

from tests.corpus.onnx.cases import good, hostile


def _reshaped(*dims: int) -> ModelProto:
    shape = helper.make_tensor("shape", TensorProto.INT64, [len(dims)], dims)
    nodes = [
        helper.make_node("MatMul", ["input", "weight"], ["scores"]),
        helper.make_node("Reshape", ["scores", "shape"], ["output"]),
    ]
    return good(nodes, constants=[shape])


@hostile("shape-overflow")
def reshape_to_2_to_the_62() -> ModelProto:
    """The product wraps around in 64 bits."""
    return _reshaped(2**62, 2**62, -1)


@hostile("shape-overflow")
def reshape_whose_product_is_zero() -> ModelProto:
    """2^32 × 2^32 is 0 in 64 bits, and then a divisor."""
    return _reshaped(2**32, 2**32, -1)


@hostile("shape-overflow")
def reshape_to_a_negative_size() -> ModelProto:
    """-2 elements."""
    return _reshaped(-2, 3)


@hostile("shape-overflow")
def reshape_of_high_rank() -> ModelProto:
    """A hundred dimensions of one."""
    return _reshaped(*[1] * 100)


@hostile("shape-overflow")
def parameter_of_2_to_the_63() -> ModelProto:
    """int64 overflow in a parameter's dims: the product is 0."""
    return good(parameters={"weight": [2**62, 4]})


@hostile("shape-overflow")
def parameter_of_negative_size() -> ModelProto:
    """-4 × -3 is 12."""
    return good(parameters={"weight": [-4, -3]})


@hostile("shape-overflow")
def parameter_of_no_element() -> ModelProto:
    """A zero dimension."""
    return good(parameters={"weight": [4, 3], "empty": [0]})


@hostile("shape-overflow")
def parameter_of_a_thousand_dimensions() -> ModelProto:
    """Rank as an attack."""
    return good(parameters={"weight": [1] * 1000})


@hostile("shape-overflow")
def expand_to_terabytes() -> ModelProto:
    """One element becomes 2^40."""
    shape = helper.make_tensor("shape", TensorProto.INT64, [3], [2**20, 2**20, 4])
    nodes = [
        helper.make_node("Expand", ["input", "shape"], ["huge"]),
        helper.make_node("MatMul", ["huge", "weight"], ["output"]),
    ]
    return good(nodes, constants=[shape])


@hostile("shape-overflow")
def one_hot_of_2_to_the_60() -> ModelProto:
    """A vector of 2^60 for every number."""
    depth = helper.make_tensor("depth", TensorProto.INT64, [], [2**60])
    values = helper.make_tensor("values", TensorProto.FLOAT, [2], [0.0, 1.0])
    nodes = [
        helper.make_node("Cast", ["input"], ["whole"], to=TensorProto.INT64),
        helper.make_node("OneHot", ["whole", "depth", "values"], ["vectors"]),
        helper.make_node("ReduceMax", ["vectors"], ["flat"], axes=[2], keepdims=0),
        helper.make_node("MatMul", ["flat", "weight"], ["output"]),
    ]
    return good(nodes, constants=[depth, values])


def _squared(times: int) -> ModelProto:
    nodes = [helper.make_node("Shape", ["input"], ["s0"], start=1, end=2)]
    nodes += [helper.make_node("Mul", [f"s{i}", f"s{i}"], [f"s{i + 1}"]) for i in range(times)]
    nodes += [
        helper.make_node("ConstantOfShape", [f"s{times}"], ["huge"]),
        helper.make_node("ReduceMax", ["huge"], ["one"], keepdims=0),
        helper.make_node("Add", ["input", "one"], ["sum"]),
        helper.make_node("MatMul", ["sum", "weight"], ["output"]),
    ]
    return good(nodes)


@hostile("shape-unknown")
def computed_shape_of_2_to_the_32() -> ModelProto:
    """The width squared, four times."""
    return _squared(4)


@hostile("shape-unknown")
def computed_shape_that_overflows() -> ModelProto:
    """The width squared, ten times: 4^1024."""
    return _squared(10)


@hostile("shape-unknown")
def shape_that_depends_on_data() -> ModelProto:
    """The first example's values are a shape."""
    nodes = [
        helper.make_node("Cast", ["input"], ["whole"], to=TensorProto.INT64),
        helper.make_node("ReduceMax", ["whole"], ["sizes"], axes=[0], keepdims=0),
        helper.make_node("ConstantOfShape", ["sizes"], ["block"]),
        helper.make_node("ReduceMax", ["block"], ["one"], keepdims=0),
        helper.make_node("Add", ["input", "one"], ["sum"]),
        helper.make_node("MatMul", ["sum", "weight"], ["output"]),
    ]
    return good(nodes)


@hostile("attribute-not-allowed")
def shape_from_nan() -> ModelProto:
    """Not a number, cast to a size."""
    nodes = [
        helper.make_node("Constant", [], ["nan"], value_floats=[float("nan")]),
        helper.make_node("Cast", ["nan"], ["size"], to=TensorProto.INT64),
        helper.make_node("ConstantOfShape", ["size"], ["block"]),
        helper.make_node("Add", ["input", "block"], ["sum"]),
        helper.make_node("MatMul", ["sum", "weight"], ["output"]),
    ]
    return good(nodes)


@hostile("shape-depends-on-batch")
def square_of_the_batch() -> ModelProto:
    """Every example against every other."""
    nodes = [
        helper.make_node("Transpose", ["input"], ["columns"], perm=[1, 0]),
        helper.make_node("MatMul", ["input", "columns"], ["pairs"]),
        helper.make_node("MatMul", ["pairs", "input"], ["mixed"]),
        helper.make_node("MatMul", ["mixed", "weight"], ["output"]),
    ]
    return good(nodes)


@hostile("output-mismatch")
def batch_of_one_squeezed_away() -> ModelProto:
    """Squeeze without axes takes every dimension of 1, and so the batch of a single query."""
    nodes = [
        helper.make_node("MatMul", ["input", "weight"], ["scores"]),
        helper.make_node("Squeeze", ["scores"], ["output"]),
    ]
    return good(nodes)


@hostile("constant-invalid")
def slice_with_a_step_of_zero() -> ModelProto:
    """An endless slice."""
    constants = [
        helper.make_tensor(name, TensorProto.INT64, [1], [value])
        for name, value in {"starts": 0, "ends": 4, "axes": 1, "steps": 0}.items()
    ]
    nodes = [
        helper.make_node("Slice", ["input", "starts", "ends", "axes", "steps"], ["cut"]),
        helper.make_node("MatMul", ["cut", "weight"], ["output"]),
    ]
    return good(nodes, constants=constants)
