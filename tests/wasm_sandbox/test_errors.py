"""Every code has a sentence and a class; messages hold public facts only."""

import re

import pytest

from chiron.wasm_sandbox.errors import (
    SENTENCES,
    BuilderFailed,
    CacheUnsafe,
    CapabilityNotGranted,
    Code,
    ComponentRefused,
    PlanRefused,
    SandboxError,
    SandboxFailed,
    failure,
)


@pytest.mark.parametrize("code", Code)
def test_a_code_makes_an_error_that_keeps_the_detail_out_of_its_message(code: Code) -> None:
    error = failure(code, "dataset-sample")
    assert error.code == code
    assert error.detail == "dataset-sample"
    if code is not Code.CAPABILITY_NOT_GRANTED:
        assert str(error) == SENTENCES[code]
    assert re.fullmatch(r"[a-z]+(-[a-z]+)+", code)


@pytest.mark.parametrize(
    ("code", "kind"),
    [
        (Code.COMPONENT_MALFORMED, ComponentRefused),
        (Code.CAPABILITY_NOT_GRANTED, CapabilityNotGranted),
        (Code.BUILDER_OUT_OF_FUEL, BuilderFailed),
        (Code.PLAN_TOO_LARGE, PlanRefused),
        (Code.RECIPE_INVALID, PlanRefused),
        (Code.SANDBOX_HUNG, SandboxFailed),
        (Code.CACHE_UNSAFE, CacheUnsafe),
    ],
)
def test_a_code_is_of_one_class(code: Code, kind: type[SandboxError]) -> None:
    assert type(failure(code)) is kind


def test_a_capability_that_was_not_granted_is_named() -> None:
    error = failure(Code.CAPABILITY_NOT_GRANTED, "random")
    assert isinstance(error, CapabilityNotGranted)
    assert error.capability == "random"
    assert "`random`" in str(error)
