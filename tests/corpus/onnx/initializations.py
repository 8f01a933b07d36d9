"""Training-info graphs that leave parameters out, make them too large, or know too much."""

from onnx import ModelProto, TensorProto, helper

from tests.corpus.onnx.cases import drawn, good, hostile


@hostile("initialization-missing")
def no_training_info() -> ModelProto:
    """Nothing says how it begins."""
    model = good()
    del model.training_info[:]
    return model


@hostile("initialization-missing")
def two_training_infos() -> ModelProto:
    """Which one counts?"""
    model = good()
    model.training_info.append(model.training_info[0])
    return model


@hostile("initialization-missing")
def binding_of_an_unknown_parameter() -> ModelProto:
    """Initialises what is not there."""
    return good(bindings={"weight": "initial.weight", "other": "initial.weight"})


@hostile("initialization-missing")
def parameter_bound_twice() -> ModelProto:
    """Two beginnings for one parameter."""
    model = good()
    model.training_info[0].initialization_binding.add(key="weight", value="initial.weight")
    return model


@hostile("initialization-mismatch")
def binding_to_nothing() -> ModelProto:
    """A value that the initialization graph does not make."""
    return good(bindings={"weight": "elsewhere"})


@hostile("initialization-mismatch")
def value_of_another_shape() -> ModelProto:
    """[3, 4] for [4, 3]."""
    return good(initial=[drawn("weight", [3, 4])])


@hostile("initialization-mismatch")
def value_of_another_type() -> ModelProto:
    """Integers."""
    tensor = helper.make_tensor("t", TensorProto.INT64, [4, 3], list(range(12)))
    return good(initial=[helper.make_node("Constant", [], ["initial.weight"], value=tensor)])


@hostile("initialization-not-allowed")
def initialization_with_an_input() -> ModelProto:
    """Who would feed it?"""
    model = good()
    value = helper.make_tensor_value_info("seed", TensorProto.FLOAT, [1])
    model.training_info[0].initialization.input.append(value)
    return model


@hostile("initialization-not-allowed")
def initialization_by_an_unlisted_operator() -> ModelProto:
    """Multinomial is not for weights."""
    return good(initial=[helper.make_node("Multinomial", [], ["initial.weight"])])


@hostile("attribute-not-allowed")
def random_tensor_of_2_to_the_60() -> ModelProto:
    """The shape is in an attribute."""
    return good(initial=[drawn("weight", [2**60])])


@hostile("attribute-not-allowed")
def random_deviation_that_is_not_a_number() -> ModelProto:
    """NaN weights from the start."""
    node = helper.make_node("RandomNormal", [], ["initial.weight"], shape=[4, 3], scale=float("nan"))
    return good(initial=[node])


@hostile("attribute-not-allowed")
def random_deviation_of_zero() -> ModelProto:
    """A C++ assertion of the standard library ends the process."""
    node = helper.make_node("RandomNormal", [], ["initial.weight"], shape=[4, 3], scale=0.0)
    return good(initial=[node])


@hostile("attribute-not-allowed")
def uniform_from_high_to_low() -> ModelProto:
    """The same assertion; the upper bound is 1 where it is not given."""
    node = helper.make_node("RandomUniform", [], ["initial.weight"], shape=[4, 3], low=5.0)
    return good(initial=[node])


@hostile("initialization-too-large")
def detour_over_a_large_tensor() -> ModelProto:
    """Draws 16 million values for 12."""
    nodes = [drawn("large", [2**12, 2**12]), drawn("weight", [4, 3])]
    return good(initial=nodes)


@hostile("shape-overflow")
def initial_shape_that_overflows() -> ModelProto:
    """2^24 × 2^24 × 2^24 values."""
    return good(initial=[drawn("large", [2**24, 2**24, 2**24]), drawn("weight", [4, 3])])


@hostile("graph-not-sorted")
def initialization_in_a_circle() -> ModelProto:
    """Its value is made of itself."""
    return good(initial=[helper.make_node("Identity", ["initial.weight"], ["initial.weight"])])


@hostile("initialization-not-allowed")
def initialization_by_a_parameter() -> ModelProto:
    """An initializer without data in the initialization graph."""
    model = good()
    model.training_info[0].initialization.initializer.append(
        TensorProto(name="unknown", data_type=TensorProto.FLOAT, dims=[4, 3])
    )
    return model
