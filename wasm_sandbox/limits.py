"""Every limit of a sandbox run, in one place."""

from pydantic import Field

from chiron.wire.contract import MAX_COMPONENT_BYTES, ContractModel


class SandboxLimits(ContractModel):
    """What a builder may use. The defaults are generous for a Python builder and small for a host.

    Fuel, memory, tables, instances and stack are counted by the engine, and so end a run at the same
    place on every machine. The clocks are the second line: they end what fuel does not see (time in the
    compiler or in a system call), and depend on the machine.
    """

    component_bytes: int = Field(default=MAX_COMPONENT_BYTES, ge=8, le=MAX_COMPONENT_BYTES)
    compile_seconds: float = Field(default=300.0, gt=0, le=600)
    compile_memory_bytes: int = Field(default=3 * 2**30, ge=2**24)
    """Address space that the compiling process may add to what it starts with."""
    parallel_compilation: bool = False
    """Compile on all cores. Off in an enclave, whose threads are few."""

    fuel: int = Field(default=2_000_000_000, ge=1, le=2**62)
    """WebAssembly instructions; host calls are charged by what they hand over. Forty times what the largest
    example takes; an endless loop is through with it in about 30 s, long before the clock."""
    run_seconds: float = Field(default=180.0, gt=0, le=600)
    memory_bytes: int = Field(default=512 * 2**20, ge=2**16, le=4 * 2**30)
    """Each linear memory; a component has at most `memories`."""
    memories: int = Field(default=4, ge=1, le=64)
    table_elements: int = Field(default=100_000, ge=1, le=10_000_000)
    tables: int = Field(default=32, ge=1, le=1000)
    instances: int = Field(default=64, ge=1, le=1000)
    stack_bytes: int = Field(default=2**20, ge=2**14, le=2**23)

    graph_bytes: int = Field(default=2 * 2**20, ge=1, le=4 * 2**20)
    """A list crosses the component boundary at some MB/s, and over a few MB the engine refuses."""
    recipe_bytes: int = Field(default=65_536, ge=2, le=2**20)
    log_lines: int = Field(default=1000, ge=0, le=10_000)
    log_bytes: int = Field(default=65_536, ge=0, le=2**20)
    """Of all lines together; what is more is counted and dropped."""
