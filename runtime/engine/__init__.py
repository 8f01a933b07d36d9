"""The training engine in a process of its own: whatever native code does with a graph, it does there.

A graph comes from the operator, and onnx and onnxruntime are native code: a process that parses,
differentiates or runs one may end up as the operator's. This one holds one job's rows and weights, and no
key; it has no socket, and no descriptor but a channel to its parent, which keeps keys, sockets and schedule.

    process   the parent's end: start, ask within bounds and time, kill
    frames    what goes over the channel
    memory    the arrays that both sides see, where the system has shared memory
    learner   a trial's learner, as its parent sees it
    model     an exported model, as its parent sees it
    worker    the process itself
"""
