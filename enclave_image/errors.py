"""Errors of building and measuring images.

ImageError                  has a stable code
├── ImageUnbuildable        image-unbuildable   something that belongs into the image is not on this machine
├── ImageInvalid            image-invalid       no image there, or one with what no image may hold
├── OcclumRefuses           occlum-refuses      the image or its configuration would not start under Occlum
├── LogCorrupted            log-corrupted       a transparency log that is none, or that was changed
├── SourceUnknown           source-unknown      no committed revision names the source that is here
└── SigstructInvalid        sigstruct-invalid   no signed enclave, or its signature does not hold
"""

from chiron.wire.errors import ChironError


class ImageError(ChironError):
    """Base of all."""

    code = "image-error"


class ImageUnbuildable(ImageError):
    """A distribution, file or library that the image needs is missing here."""

    code = "image-unbuildable"


class ImageInvalid(ImageError):
    """No manifest, or a manifest or file tree that is not an image's."""

    code = "image-invalid"


class OcclumRefuses(ImageError):
    """What Occlum would refuse at start is refused at build."""

    code = "occlum-refuses"


class LogCorrupted(ImageError):
    """No transparency log there, or entries and signed heads do not agree."""

    code = "log-corrupted"


class SourceUnknown(ImageError):
    """No git checkout, or one with changes that are not committed."""

    code = "source-unknown"


class SigstructInvalid(ImageError):
    """No signed SGX enclave there, or not one that its author's key signed."""

    code = "sigstruct-invalid"
