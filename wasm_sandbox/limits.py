"""Every bound of this room, in one place: of a sandbox run, and of an admitted graph."""

from pydantic import Field

from chiron.wire.contract import MAX_COMPONENT_BYTES, ContractModel

LOWEST_IR, HIGHEST_IR = 7, 10
LOWEST_OPSET, HIGHEST_OPSET = 13, 21
"""What onnxruntime-training 1.19 reads; 13 is the first opset in which all axes are inputs or stable."""


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
    """Each linear memory's size; a component has at most `memories`."""
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
    """All log lines together; what is more is counted and dropped."""


class GraphLimits(ContractModel):
    """What a graph may be made of. The envelope (parameters, bytes) comes on top.

    The defaults leave room for a ResNet-152 at 224 × 224, and end hostile graphs within a second.
    """

    graph_bytes: int = Field(default=4 * 2**20, ge=1, le=16 * 2**20)
    fields: int = Field(default=200_000, ge=1, le=2**22)
    """Protobuf fields of the model, counted before it is parsed; one costs at most some 200 bytes."""
    name_bytes: int = Field(default=256, ge=1, le=4096)
    nodes: int = Field(default=2000, ge=1, le=20_000)
    initializers: int = Field(default=2000, ge=1, le=20_000)
    """Parameters and constants."""
    node_inputs: int = Field(default=64, ge=1, le=1024)
    node_outputs: int = Field(default=16, ge=1, le=1024)
    constant_elements: int = Field(default=262_144, ge=1, le=2**24)
    """Elements of all constants together."""
    rank: int = Field(default=6, ge=1, le=8)
    dimension: int = Field(default=2**24, ge=1, le=2**31)
    activation_bytes_per_example: int = Field(default=256 * 2**20, ge=1, le=2**36)
    """All values that the graph makes of one example."""
    activation_bytes_fixed: int = Field(default=64 * 2**20, ge=1, le=2**36)
    """All values that do not grow with the batch."""
    workspace_bytes: int = Field(default=256 * 2**20, ge=1, le=2**36)
    """The unrolled window of a convolution (im2col), which one example takes at a time."""
    initialization_ratio: int = Field(default=8, ge=1, le=64)
    """Elements that the initialization graph makes, for each element of a parameter."""
    initialization_elements: int = Field(default=65_536, ge=1, le=2**24)
    """Elements that it may make in any case (a shape, a constant)."""
