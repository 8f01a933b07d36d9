"""`Client` has the verbs of `AsyncClient`: names, arguments and documentation, and no other."""

import inspect
import pydoc
from collections.abc import Callable
from typing import Any

import pytest

from chiron import AsyncClient, Client, Predictor, PredictorSession


def verbs(of: type) -> dict[str, Callable[..., Any]]:
    """Public methods."""
    return {name: value for name, value in inspect.getmembers(of, inspect.isfunction) if name[0] != "_"}


@pytest.mark.parametrize(("asynchronous", "waiting"), [(AsyncClient, Client), (PredictorSession, Predictor)])
def test_both_have_the_same_verbs(asynchronous: type, waiting: type) -> None:
    assert verbs(waiting).keys() == verbs(asynchronous).keys()


@pytest.mark.parametrize("name", sorted(verbs(AsyncClient)))
def test_a_verb_takes_and_says_the_same(name: str) -> None:
    asynchronous, waiting = verbs(AsyncClient)[name], verbs(Client)[name]
    assert inspect.signature(waiting).parameters == inspect.signature(asynchronous).parameters
    assert waiting.__doc__ is not None
    assert waiting.__name__ == name
    if name != "close":
        assert waiting.__doc__ == asynchronous.__doc__


@pytest.mark.parametrize("name", sorted(verbs(Client)))
def test_a_waiting_verb_answers_what_the_other_does_once_awaited(name: str) -> None:
    assert not inspect.iscoroutinefunction(verbs(Client)[name])
    answer = str(inspect.signature(verbs(Client)[name]).return_annotation)
    assert "Async" not in answer
    assert "Session" not in answer


def test_properties_are_the_same_too() -> None:
    def properties(of: type) -> set[str]:
        return {name for name, value in inspect.getmembers(of) if isinstance(value, property)}

    assert properties(Client) - {"store"} == properties(AsyncClient) - {"store"}


def test_help_shows_a_verb_as_if_it_were_written_by_hand() -> None:
    told = pydoc.plain(pydoc.render_doc(Client))
    assert "verify_job(self, job:" in told
    assert "Fetch evidence over a fresh random nonce and verify it" in told


def test_initial_arguments_are_the_same_but_for_the_clock_of_tests() -> None:
    asynchronous = inspect.signature(AsyncClient).parameters
    assert list(inspect.signature(Client).parameters) == [name for name in asynchronous if name != "clock"]
