"""Answers with what differs from run to run in an ordinary Python: orders of sets, hashes, identities."""

import gc
import math
import sys

from wit_world.imports import types


def build(request):
    words = {f"word-{number}" for number in range(100)}
    facts = [
        list(words),
        hash("text"),
        id(object()) % 4096,
        [math.sin(number) / 3 for number in range(50)],
        sum(0.1 for _ in range(1000)),
        gc.get_count(),
        sys.getrefcount(None),
        repr(object()),
    ]
    return types.Plan(graph=repr(facts).encode(), recipe="{}")
