"""Whether a recipe fits a job: decided by public facts, before any data is read."""

from chiron.wasm_sandbox.errors import Code, failure
from chiron.wasm_sandbox.recipe import BinaryCrossEntropy, CrossEntropy, Layout, Metric, Recipe
from chiron.wire.contract import BuildRequest, InputType, Oblivious, Task

CLASSIFICATION_METRICS = frozenset({Metric.ACCURACY, Metric.TOP5, Metric.AUC, Metric.F1})


def check_recipe(recipe: Recipe, request: BuildRequest, oblivious: Oblivious = Oblivious.CLAMPED) -> None:
    """Refuse a recipe that does not fit the job: needs public facts only.

    Raises:
        PlanRefused: `recipe-invalid`; its `detail` names the field.
    """
    for field, problem in (
        ("loss", _loss_problem(recipe, request)),
        ("metrics", _metrics_problem(recipe, request)),
        ("augmentations", _augmentation_problem(recipe, request)),
        ("normalise", _normalise_problem(recipe, request)),
        ("fill_missing", _fill_problem(recipe, request)),
        ("early_stop", _stop_problem(recipe, oblivious)),
    ):
        if problem is not None:
            raise failure(Code.RECIPE_INVALID, f"{field}: {problem}")


def _loss_problem(recipe: Recipe, request: BuildRequest) -> str | None:
    loss = recipe.loss
    if isinstance(loss, CrossEntropy):
        if request.task is not Task.CLASSIFICATION:
            return "cross-entropy is for classifications"
        if loss.class_weights is not None and len(loss.class_weights) != request.classes:
            return "class_weights needs one weight a class"
    elif request.task is Task.CLASSIFICATION and not isinstance(loss, BinaryCrossEntropy):
        return f"{loss.kind} is for regressions"
    return None


def _metrics_problem(recipe: Recipe, request: BuildRequest) -> str | None:
    classification = request.task is Task.CLASSIFICATION
    unfit = [m for m in recipe.metrics if (m in CLASSIFICATION_METRICS) != classification]
    return f"{min(unfit)} is not a metric of a {request.task}" if unfit else None


def _augmentation_problem(recipe: Recipe, request: BuildRequest) -> str | None:
    augmentations = recipe.augmentations
    if not augmentations.spatial:
        return None
    if len(request.input_shape) not in (2, 3):
        return "flip, crop and cutout need images of two or three dimensions"
    height, width = spatial_shape(request.input_shape, augmentations.layout)
    if augmentations.crop_padding >= min(height, width) or augmentations.cutout > min(height, width):
        return "crop_padding or cutout is larger than the image"
    return None


def _normalise_problem(recipe: Recipe, request: BuildRequest) -> str | None:
    if recipe.normalise is None or len(recipe.normalise.mean) == 1:
        return None
    shape, layout = request.input_shape, recipe.normalise.layout
    axis = 0 if len(shape) == 3 and layout is Layout.CHANNELS_FIRST else -1
    if not shape or len(recipe.normalise.mean) != shape[axis]:
        return "needs one number, or one a channel or column"
    return None


def _fill_problem(recipe: Recipe, request: BuildRequest) -> str | None:
    if recipe.fill_missing is None:
        return None
    if request.input_dtype is not InputType.FLOAT32:
        return "only float32 inputs have missing values"
    columns = request.input_shape[-1] if request.input_shape else 1
    return None if len(recipe.fill_missing) in (1, columns) else "needs one number, or one a column"


def _stop_problem(recipe: Recipe, oblivious: Oblivious) -> str | None:
    if recipe.early_stop is None or oblivious is not Oblivious.STRICT:
        return None
    return "a job with `oblivious: strict` learns to its end, for a host would see that it stops"


def spatial_shape(shape: tuple[int, ...], layout: Layout) -> tuple[int, int]:
    """Height and width of an image of this input shape."""
    if len(shape) == 3 and layout is Layout.CHANNELS_FIRST:
        return shape[1], shape[2]
    return shape[0], shape[1]
