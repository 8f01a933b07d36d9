"""Every error of the sandbox, in one tree. Each has a stable `code`.

ChironError
├── SandboxError                what a run, an inspection or an admission ends with
│   ├── ComponentRefused        the bytes are no builder of our world; none of its code ran
│   ├── CapabilityNotGranted    the component imports what the owner did not grant; none of its code ran
│   ├── BuilderFailed           the builder ran and broke a limit, trapped, or answered an error
│   ├── PlanRefused             the builder answered, and its answer is not acceptable
│   ├── SandboxFailed           the worker process crashed, hung, or broke the protocol
│   │   └── WorkerGone          the worker process ended without an answer
│   ├── CacheUnsafe             the module cache could be written by somebody else
│   └── GraphRefused            the graph is not admitted (`chiron.wasm_sandbox.admission`)
├── FrameMalformed              the bytes are no frame within its bounds
└── BinaryMalformed             the bytes are no WebAssembly binary

The last two never leave the sandbox: whoever reads frames or binaries turns them into a `SandboxError`.
Messages are made of the code and of public facts only. What a hostile component says about itself
(trap texts, its error string) may hold data values, and so never becomes part of a message: it is
kept apart in `detail`, which only a rehearsal shows, to the builder's author.
"""

from enum import StrEnum

from chiron.wire.errors import ChironError


class Code(StrEnum):
    """Every code that a sandbox run or an inspection can end with."""

    COMPONENT_TOO_LARGE = "component-too-large"
    COMPONENT_MALFORMED = "component-malformed"
    COMPONENT_IS_CORE_MODULE = "component-is-core-module"
    COMPONENT_IMPORTS_FOREIGN = "component-imports-foreign"
    COMPONENT_EXPORT_MISSING = "component-export-missing"
    COMPONENT_TYPE_MISMATCH = "component-type-mismatch"
    COMPONENT_COMPILE_LIMIT = "component-compile-limit"
    CAPABILITY_NOT_GRANTED = "capability-not-granted"
    BUILDER_OUT_OF_FUEL = "builder-out-of-fuel"
    BUILDER_DEADLINE = "builder-deadline"
    BUILDER_OUT_OF_MEMORY = "builder-out-of-memory"
    BUILDER_STACK_OVERFLOW = "builder-stack-overflow"
    BUILDER_TRAPPED = "builder-trapped"
    BUILDER_INVALID_VALUE = "builder-invalid-value"
    BUILDER_REFUSED_REQUEST = "builder-refused-request"
    PLAN_TOO_LARGE = "plan-too-large"
    RECIPE_INVALID = "recipe-invalid"
    SANDBOX_CRASHED = "sandbox-crashed"
    SANDBOX_HUNG = "sandbox-hung"
    SANDBOX_PROTOCOL = "sandbox-protocol"
    SANDBOX_START = "sandbox-start"
    CACHE_UNSAFE = "cache-unsafe"


SENTENCES = {
    Code.COMPONENT_TOO_LARGE: "the component is larger than a component may be",
    Code.COMPONENT_MALFORMED: "the bytes are not a valid WebAssembly component",
    Code.COMPONENT_IS_CORE_MODULE: "this is a core WebAssembly module, not a component",
    Code.COMPONENT_IMPORTS_FOREIGN: "the component imports something outside of chiron:builder@0.1.0",
    Code.COMPONENT_EXPORT_MISSING: "the component does not export `build`",
    Code.COMPONENT_TYPE_MISMATCH: "a function's type differs from chiron:builder@0.1.0",
    Code.COMPONENT_COMPILE_LIMIT: "compiling the component took more time or memory than is allowed",
    Code.CAPABILITY_NOT_GRANTED: "the component imports a capability that was not granted",
    Code.BUILDER_OUT_OF_FUEL: "the builder used up its instructions",
    Code.BUILDER_DEADLINE: "the builder ran past its time",
    Code.BUILDER_OUT_OF_MEMORY: "the builder asked for more memory, tables or instances than it may have",
    Code.BUILDER_STACK_OVERFLOW: "the builder overflowed its stack",
    Code.BUILDER_TRAPPED: "the builder trapped",
    Code.BUILDER_INVALID_VALUE: "the builder passed a value that is not one of its type",
    Code.BUILDER_REFUSED_REQUEST: "the builder answered that it cannot build for this request",
    Code.PLAN_TOO_LARGE: "the plan is larger than a plan may be",
    Code.RECIPE_INVALID: "the recipe is not one",
    Code.SANDBOX_CRASHED: "the sandbox process crashed",
    Code.SANDBOX_HUNG: "the sandbox process did not answer in time and was killed",
    Code.SANDBOX_PROTOCOL: "the sandbox process broke the protocol",
    Code.SANDBOX_START: "the sandbox process did not start",
    Code.CACHE_UNSAFE: "the module cache could be written by somebody else",
}


class SandboxError(ChironError):
    """Base of the errors of runs and admission; `detail` is untrusted, for a rehearsal only."""

    def __init__(self, code: str, message: str, detail: str = "") -> None:
        super().__init__(message, code=code)
        self.detail = detail


class ComponentRefused(SandboxError):
    """The bytes are no builder component; `code` says what is wrong with them."""


class CapabilityNotGranted(SandboxError):
    """`capability` names the first capability, in alphabetical order, that was not granted."""

    def __init__(self, capability: str) -> None:
        super().__init__(
            Code.CAPABILITY_NOT_GRANTED,
            f"the builder needs `{capability}`, which the data owner did not grant",
            capability,
        )
        self.capability = capability


class BuilderFailed(SandboxError):
    """The builder's own code did not come to an answer."""


class PlanRefused(SandboxError):
    """The builder's answer breaks a bound or a schema."""


class SandboxFailed(SandboxError):
    """The worker process did not do its part."""


class WorkerGone(SandboxFailed):
    """The worker ended without an answer; `detail` has its exit status (negative: the signal's number)."""


class CacheUnsafe(SandboxError):
    """A cache directory whose owner or mode lets others write compiled code."""


class GraphRefused(SandboxError):
    """The graph is not admitted; the codes are listed in `chiron.wasm_sandbox.admission`."""


class FrameMalformed(ChironError):
    """The bytes are not a frame within the bounds."""

    code = "frame-malformed"


class BinaryMalformed(ChironError):
    """A number does not end, or a section runs past the end."""

    code = "binary-malformed"


_KINDS: dict[Code, type[SandboxError]] = {
    **{code: ComponentRefused for code in Code if code.startswith("component-")},
    **{code: BuilderFailed for code in Code if code.startswith("builder-")},
    **{code: SandboxFailed for code in Code if code.startswith("sandbox-")},
    Code.PLAN_TOO_LARGE: PlanRefused,
    Code.RECIPE_INVALID: PlanRefused,
    Code.CACHE_UNSAFE: CacheUnsafe,
}


def failure(code: Code, detail: str = "") -> SandboxError:
    """The error of a code, with its sentence. `CAPABILITY_NOT_GRANTED` takes the capability as detail."""
    if code is Code.CAPABILITY_NOT_GRANTED:
        return CapabilityNotGranted(detail)
    return _KINDS[code](code, SENTENCES[code], detail)
