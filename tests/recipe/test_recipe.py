"""The recipe's schema: what is refused before data is touched, and by which name."""

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chiron.wasm_sandbox.errors import Code, PlanRefused
from chiron.wasm_sandbox.recipe import MAX_RECIPE_BYTES, Recipe, matches, parse_recipe
from chiron.wasm_sandbox.recipe_fit import check_recipe
from chiron.wire.contract import BuildRequest, InputType, Task

IMAGES = BuildRequest(
    task=Task.CLASSIFICATION,
    input_shape=(3, 8, 8),
    input_dtype=InputType.UINT8,
    classes=4,
    max_parameters=1000,
)
TABLE = BuildRequest(
    task=Task.REGRESSION, input_shape=(6,), input_dtype=InputType.FLOAT32, max_parameters=1000
)

OUT_OF_RANGE: list[tuple[str, Any]] = [
    ("batch_size", 0),
    ("batch_size", 65_537),
    ("accumulation", 0),
    ("epochs", 0),
    ("steps", 10_000_001),
    ("warmup", 1.0),
    ("warmup", -0.1),
    ("clip_norm", 0),
    ("clip_value", -1),
    ("ema_decay", 1.0),
    ("seed", -1),
    ("version", 2),
    ("no_decay", ["x"] * 65),
    ("frozen", [""]),
    ("metrics", ["precision"]),
    ("fill_missing", []),
    ("optimizer.adamw.learning_rate", 0),
    ("optimizer.adamw.beta1", 1.0),
    ("optimizer.adamw.weight_decay", 11),
    ("optimizer.sgd.momentum", 1.0),
    ("loss.cross-entropy.label_smoothing", 1.0),
    ("loss.cross-entropy.class_weights", [1.0]),
    ("loss.huber.delta", 0),
    ("loss.binary-cross-entropy.positive_weight", -1),
    ("schedule.step.factor", 1.0),
    ("schedule.one-cycle.peak_at", 0.0),
    ("augmentations.crop_padding", 65),
    ("augmentations.mixup_alpha", -1),
    ("early_stop.patience", 0),
]


def nested(path: str, value: Any) -> dict[str, Any]:
    """`a.kind.field` → {"a": {"kind": "kind", "field": value}}; `a.field` → {"a": {"field": value}}."""
    parts = path.split(".")
    if len(parts) == 1:
        return {path: value}
    kind = {"kind": parts[1]} if len(parts) == 3 else {}
    return {parts[0]: {**kind, parts[-1]: value}}


@pytest.mark.parametrize(("path", "value"), OUT_OF_RANGE, ids=lambda part: str(part)[:40])
def test_a_field_out_of_range_is_refused_by_its_name(path: str, value: Any) -> None:
    with pytest.raises(PlanRefused) as refused:
        parse_recipe(json.dumps(nested(path, value)).encode())
    assert refused.value.code == Code.RECIPE_INVALID
    assert path in refused.value.detail


@pytest.mark.parametrize(
    ("recipe", "told"),
    [
        (b'{"epochs": 1, "steps": 2}', "epochs and steps exclude each other"),
        (b'{"batch_size": 2, "accumulation": 3}', "accumulation must not exceed"),
        (b'{"optimizer": {"kind": "sgd", "momentum": 0, "nesterov": true}}', "nesterov"),
        (b'{"schedule": {"kind": "step", "milestones": [0.5, 0.2]}}', "milestones must ascend"),
        (b'{"normalise": {"mean": [0.5], "std": [1, 2]}}', "mean and std"),
        (b'{"learning_rate": 1}', "learning_rate"),
        (b'{"loss": {"kind": "hinge"}}', "loss"),
        (b'{"clip_norm": NaN}', "NaN"),
        (b'{"clip_norm": 1e999}', "clip_norm"),
        (b"[]", "recipe"),
        (b"\xff", "recipe"),
        (b"{" * 5000, "recipe"),
        (b" " * (MAX_RECIPE_BYTES + 1), "longer than"),
    ],
)
def test_what_contradicts_itself_or_is_no_recipe_is_refused(recipe: bytes, told: str) -> None:
    with pytest.raises(PlanRefused) as refused:
        parse_recipe(recipe)
    assert refused.value.code == Code.RECIPE_INVALID
    assert told in refused.value.detail or told == "NaN"


def test_a_refusal_repeats_no_value() -> None:
    with pytest.raises(PlanRefused) as refused:
        parse_recipe(b'{"batch_size": "secret-1234", "seed": -98765}')
    assert "secret" not in refused.value.detail + str(refused.value)
    assert "98765" not in refused.value.detail + str(refused.value)


@pytest.mark.parametrize(
    ("request_", "recipe", "field"),
    [
        (TABLE, {}, "loss"),
        (IMAGES, {"loss": {"kind": "mse"}}, "loss"),
        (IMAGES, {"loss": {"kind": "cross-entropy", "class_weights": [1, 1]}}, "loss"),
        (IMAGES, {"metrics": ["rmse"]}, "metrics"),
        (TABLE, {"loss": {"kind": "mse"}, "metrics": ["auc"]}, "metrics"),
        (TABLE, {"loss": {"kind": "l1"}, "augmentations": {"horizontal_flip": True}}, "augmentations"),
        (IMAGES, {"augmentations": {"crop_padding": 8}}, "augmentations"),
        (IMAGES, {"augmentations": {"cutout": 9}}, "augmentations"),
        (IMAGES, {"normalise": {"mean": [0, 0], "std": [1, 1]}}, "normalise"),
        (IMAGES, {"fill_missing": [0]}, "fill_missing"),
        (TABLE, {"loss": {"kind": "huber"}, "fill_missing": [0, 1]}, "fill_missing"),
    ],
)
def test_what_does_not_fit_the_job_is_refused_by_its_name(
    request_: BuildRequest, recipe: dict[str, Any], field: str
) -> None:
    parsed = parse_recipe(json.dumps(recipe).encode())
    with pytest.raises(PlanRefused) as refused:
        check_recipe(parsed, request_)
    assert refused.value.detail.startswith(f"{field}: ")


def test_what_fits_passes() -> None:
    full = {
        "loss": {"kind": "cross-entropy", "class_weights": [1, 2, 3, 4], "label_smoothing": 0.1},
        "normalise": {"mean": [1, 2, 3], "std": [1, 2, 3]},
        "augmentations": {"horizontal_flip": True, "crop_padding": 2, "cutout": 4, "mixup_alpha": 0.2},
        "metrics": ["accuracy", "top5", "auc", "f1"],
    }
    check_recipe(parse_recipe(json.dumps(full).encode()), IMAGES)
    table = {
        "loss": {"kind": "huber"},
        "fill_missing": [0] * 6,
        "normalise": {"mean": [0] * 6, "std": [1] * 6},
    }
    check_recipe(parse_recipe(json.dumps(table).encode()), TABLE)


@given(
    st.binary(max_size=200) | st.recursive(st.none() | st.integers() | st.text(), st.lists).map(json.dumps)
)
@settings(max_examples=200, deadline=None)
def test_anything_else_is_refused_with_the_one_code(data: bytes | str) -> None:
    raw = data if isinstance(data, bytes) else data.encode()
    code = None
    try:
        parse_recipe(raw)
    except PlanRefused as refused:
        code = refused.code
    assert code == Code.RECIPE_INVALID


def test_serialised_and_parsed_is_the_same() -> None:
    for recipe in (Recipe(), Recipe(steps=5, frozen=("*.bias",), metrics=("auc", "f1"), ema_decay=0.9)):
        assert parse_recipe(recipe.model_dump_json().encode()) == recipe


def test_patterns_are_over_whole_names() -> None:
    assert matches("conv1.weight", ("conv*",))
    assert not matches("conv1.weight", ("conv", "weight", "CONV*"))
