"""The host's side of each capability: the functions a builder may call, once their interface is linked.

Every call is charged fuel by what it hands over, so that a builder cannot make the host work for
nothing. Whatever a function raises ends the run; the reason is kept in `Host.failure`, because the
engine reports every exception of a host function alike.
"""

import hashlib
from collections.abc import Callable, Iterable
from ctypes import byref, c_uint64
from typing import Any

from wasmtime import _ffi as ffi
from wasmtime.component import Linker, Record

from chiron.wasm_sandbox.codec import Buffer
from chiron.wasm_sandbox.commands import RunCommand, load_statistics
from chiron.wasm_sandbox.errors import Code, SandboxError, failure
from chiron.wasm_sandbox.world import interface_name

CALL_FUEL = 5_000
"""A call into the host and back takes about as long as these many instructions."""
ELEMENT_FUEL = 256
"""Handing over one number or byte takes the host about as long as these many instructions."""
MAX_RANDOM_BYTES = 65_536
_RANDOM = b"chiron-random-v1"
_BLOCK = 64

Function = Callable[..., Any]


def record(fields: dict[str, Any]) -> Record:
    """A component-model record of these fields."""
    made = Record()
    made.__dict__.update(fields)
    return made


class Host:
    """The capabilities of one run. Only those in `command.granted` are ever linked."""

    def __init__(self, command: RunCommand, statistics: Buffer, sample: Buffer) -> None:
        self._command = command
        self._statistics = statistics
        self._sample = bytes(sample)
        self.failure: SandboxError | None = None
        self.log_lines = 0
        self.log: list[tuple[str, str]] = []
        self._log_bytes_left = command.limits["log_bytes"]

    def link(self, linker: Linker, wanted: Iterable[str]) -> None:
        """Define the wanted interfaces that are granted; an undefined import cannot be instantiated."""
        makers = {
            "log": self._log_functions,
            "dataset-shape": self._shape_functions,
            "dataset-statistics": self._statistics_functions,
            "dataset-sample": self._sample_functions,
            "random": self._random_functions,
            "trial-scores": self._score_functions,
        }
        with linker.root() as root:
            for capability in wanted:
                if capability not in self._command.granted:
                    continue
                with root.add_instance(interface_name(capability)) as instance:
                    for name, function in makers[capability]().items():
                        instance.add_func(name, self._guarded(function))

    def _guarded(self, function: Function) -> Function:
        def call(store: Any, *arguments: Any) -> Any:
            try:
                _charge(store, CALL_FUEL)
                return function(store, *arguments)
            except SandboxError as error:
                self.failure = error
                raise

        return call

    def _log_functions(self) -> dict[str, Function]:
        def write(store: Any, severity: str, message: str) -> None:
            _charge(store, len(message))
            self.log_lines += 1
            if not self._command.keep_log or len(self.log) >= self._command.limits["log_lines"]:
                return
            size = len(message.encode())
            if size <= self._log_bytes_left:
                self._log_bytes_left -= size
                self.log.append((severity, message))

        return {"write": write}

    def _shape_functions(self) -> dict[str, Function]:
        return {"describe": lambda _store: record(self._command.shape)}

    def _statistics_functions(self) -> dict[str, Function]:
        form = self._command.statistics
        if form is None:
            raise failure(Code.CAPABILITY_NOT_GRANTED, "dataset-statistics")
        lists = load_statistics(form, self._statistics)
        answers = {
            "inputs": (4 * form.columns, record(lists.inputs)),
            "quantile-levels": (form.levels, lists.levels),
            "input-quantiles": (form.levels * form.columns, lists.quantiles),
            "targets": (4 * form.targets, record(lists.targets)),
            "class-counts": (form.classes, lists.counts),
            "input-granularity": (0, lists.granularity),
        }

        def telling(elements: int, answer: Any) -> Function:
            def tell(store: Any) -> Any:
                _charge(store, elements * ELEMENT_FUEL)
                return answer

            return tell

        return {name: telling(elements, answer) for name, (elements, answer) in answers.items()}

    def _sample_functions(self) -> dict[str, Function]:
        if self._command.sample is None:
            raise failure(Code.CAPABILITY_NOT_GRANTED, "dataset-sample")
        count, input_bytes, target_bytes = self._command.sample
        content, targets = self._sample, count * input_bytes

        def get(store: Any, index: int) -> Record | None:
            if index >= count:
                return None
            _charge(store, (input_bytes + target_bytes) * ELEMENT_FUEL)
            taken = content[index * input_bytes :][:input_bytes]
            target = content[targets + index * target_bytes :][:target_bytes]
            return record({"input": taken, "target": target})

        return {"count": lambda _store: count, "get": get}

    def _random_functions(self) -> dict[str, Function]:
        stream = RandomStream(self._command.seed)

        def take(store: Any, count: int) -> bytes:
            if count > MAX_RANDOM_BYTES:
                raise failure(Code.BUILDER_INVALID_VALUE, f"random.bytes: at most {MAX_RANDOM_BYTES}")
            _charge(store, count * ELEMENT_FUEL)
            return stream.take(count)

        return {
            "next-u64": lambda _store: int.from_bytes(stream.take(8), "little"),
            "bytes": take,
        }

    def _score_functions(self) -> dict[str, Function]:
        trials = [record(trial) for trial in self._command.history]
        size = sum(len(trial["recipe"]) for trial in self._command.history)

        def tell(store: Any) -> list[Record]:
            _charge(store, size * ELEMENT_FUEL)
            return trials

        return {"history": tell}


class RandomStream:
    """Bytes that depend on the seed only: BLAKE2b of (seed, block number), block after block."""

    def __init__(self, seed: int) -> None:
        self._seed = seed.to_bytes(8, "little")
        self._number = 0
        self._left = b""

    def take(self, count: int) -> bytes:
        """The next `count` bytes."""
        parts = [self._left]
        have = len(self._left)
        while have < count:
            parts.append(self._block())
            have += _BLOCK
        content = b"".join(parts)
        self._left = content[count:]
        return content[:count]

    def _block(self) -> bytes:
        message = self._seed + self._number.to_bytes(8, "little")
        self._number += 1
        return hashlib.blake2b(message, digest_size=_BLOCK, person=_RANDOM).digest()


def _charge(store: Any, fuel: int) -> None:
    """Take fuel away, as instructions do; raises `BuilderFailed` if it is not there."""
    context = store._context()
    left = c_uint64(0)
    ffi.wasmtime_context_get_fuel(context, byref(left))
    if left.value < fuel:
        ffi.wasmtime_context_set_fuel(context, 0)
        raise failure(Code.BUILDER_OUT_OF_FUEL)
    ffi.wasmtime_context_set_fuel(context, left.value - fuel)
