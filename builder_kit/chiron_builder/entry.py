"""The component's exports, answered by a project's `build` and `revise`. Imported by generated code only."""

from collections.abc import Callable
from typing import Any

from componentize_py_types import Err
from wit_world.imports import types

from . import capabilities as _capabilities  # noqa: F401 - looks its interfaces up while there are files
from .graph import BuildRefused
from .request import Plan, Request


def run_build(build: Callable[[Request], Plan], request: Any) -> Any:
    """The component's `build`."""
    return _exported(_answer(build, _request(request)))


def run_revise(revise: Callable[[Request], Plan | None], request: Any) -> Any:
    """The component's `revise`."""
    plan = _answer(revise, _request(request))
    return None if plan is None else _exported(plan)


def _answer(function: Callable[..., Any], *arguments: Any) -> Any:
    try:
        return function(*arguments)
    except (BuildRefused, ValueError) as error:
        raise Err(str(error)) from error


def _exported(plan: Plan) -> Any:
    return types.Plan(graph=plan.graph, recipe=plan.recipe)


def _request(request: Any) -> Request:
    return Request(
        task=request.task.name.lower(),
        input_shape=tuple(request.input_shape),
        input_type=request.input_type.name.lower(),
        target_shape=tuple(request.target_shape),
        classes=request.classes,
        max_parameters=request.max_parameters,
        trial=request.trial,
        trials=request.trials,
    )
