"""What the worker process gives up before it touches anything hostile: the second wall behind the engine.

Each measure is applied where the kernel has it. A LibOS (Occlum) has neither seccomp nor Landlock and
answers ENOSYS: there the wall is the enclave's own, and the engine is the first one everywhere.
"""

from dataclasses import dataclass

from chiron.wasm_sandbox.confinement import landlock, memory, resources, seccomp


@dataclass(frozen=True)
class Confinement:
    """What is in force."""

    landlock: bool
    """No file, no TCP port, no other domain's abstract socket or process can be reached."""
    seccomp: bool
    """Only the system calls of computing, and reading and writing the pipes, are left."""


def confine(*, memory_bytes: int, executable_memory: bool) -> Confinement:
    """Give up all that computing does not need, for good. Call it before any thread is started,
    and after all imports.

    `memory_bytes`: address space that may be added. `executable_memory`: machine code is going to be loaded.
    """
    memory.forbid_writable_code()
    used = resources.address_space()
    restricted = landlock.deny_everything()
    resources.limit(None if used is None else used + memory_bytes)
    return Confinement(restricted, seccomp.filter_system_calls(executable_memory=executable_memory))
