"""Passes over the gradient graph that make it faster or smaller and compute the same numbers."""

from onnx import ModelProto


def rewrite(model: ModelProto) -> None:
    """Apply all passes, in place."""
