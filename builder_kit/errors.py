"""Errors of the operator's kit.

KitError                has a stable `code`
├── ProjectInvalid      the folder is no builder project, or its settings are wrong
├── CompilationFailed   componentize-py did not make a component of it
└── ModelUnsuitable     an ONNX model cannot become a static builder
"""

from chiron.wire.errors import ChironError


class KitError(ChironError):
    """Base of all; the message is for the operator."""

    code = "kit-error"


class ProjectInvalid(KitError):
    """What is wrong with the project."""

    code = "project-invalid"


class CompilationFailed(KitError):
    """The end of the compiler's output."""

    code = "compilation-failed"


class ModelUnsuitable(KitError):
    """What of the model cannot be kept."""

    code = "model-unsuitable"
