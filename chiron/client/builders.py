"""Builders as an owner names them: `publisher/name@version`, or `publisher/digest`; or less where that says
which.

The gateway tells the names, so they prove nothing: a job binds the digest, which is shown wherever a builder
is chosen or granted. A name that was granted once stands for that digest until its owner names another.
"""

import re
from collections.abc import Sequence

from chiron.client.errors import BuilderChanged, ConfigurationInvalid, GatewayMisbehaved
from chiron.client.store import BuilderRecord, OwnerStore
from chiron.wire.public_api import BuilderInfo

MIN_DIGEST_CHARACTERS = 12
"""Of a digest's beginning: a builder whose digest begins so is made in days, not in seconds."""
_NAME = re.compile(r"(?:(?P<publisher>[^/@]+)/)?(?P<name>[^/@]+)(?:@(?P<version>[^/@]+))?")
_DIGEST = re.compile(rf"[0-9a-f]{{{MIN_DIGEST_CHARACTERS},64}}")
_CHOICES_TOLD = 20


def find_builder(builders: Sequence[BuilderInfo], text: str) -> BuilderInfo:
    """The one builder of this name or digest. Which of several is meant is never guessed.

    Raises:
        ConfigurationInvalid: none is, or several are; then the choices are named.
    """
    found = [builder for builder in builders if _is_named(builder, text)]
    if len(found) == 1:
        return found[0]
    if not found:
        raise _not_found(f"the gateway offers no builder {text!r}: `chiron builder list` shows them")
    choices = "\n".join(f"{builder.full_name}  {builder.sha256}" for builder in found[:_CHOICES_TOLD])
    raise _not_found(f"{text!r} may be any of these; name one in full, or its digest:\n{choices}")


def _is_named(builder: BuilderInfo, text: str) -> bool:
    publisher, _, digest = text.rpartition("/")
    if _DIGEST.fullmatch(digest) and builder.sha256.startswith(digest):
        return publisher in ("", builder.publisher)
    named = _NAME.fullmatch(text)
    if named is None:
        return False
    manifest = builder.manifest
    parts = {"publisher": builder.publisher, "name": manifest.name, "version": manifest.version}
    return all(value in (None, parts[part]) for part, value in named.groupdict().items())


def _not_found(message: str) -> ConfigurationInvalid:
    return ConfigurationInvalid(message, code="builder-not-found")


def answered(sha256: str, builder: BuilderInfo) -> BuilderInfo:
    """The builder, if it is the one that was asked for.

    Raises:
        GatewayMisbehaved: it is another.
    """
    if builder.sha256 != sha256:
        raise GatewayMisbehaved("the gateway answered with another builder than was asked for")
    return builder


def refuse_changed(store: OwnerStore, builder: BuilderInfo, text: str) -> None:
    """Refuse a name that stood for another digest when it was granted; a digest in full is always taken.

    Raises:
        BuilderChanged: with both digests.
    """
    known = store.builder(builder.full_name)
    in_full = text.rpartition("/")[2] == builder.sha256
    if known is None or known.sha256 == builder.sha256 or in_full:
        return
    raise BuilderChanged(
        f"{builder.full_name} had the digest {known.sha256} when you granted it, and now the gateway says "
        f"{builder.sha256}. If you mean that one, name it by its digest"
    )


def remember(store: OwnerStore, builder: BuilderInfo) -> None:
    """Write down which digest was granted under this name."""
    store.save_builder(BuilderRecord(name=builder.full_name, sha256=builder.sha256))


def in_words(builder: BuilderInfo) -> str:
    """Name and digest, as they are shown together."""
    return f"{builder.full_name}, SHA-256 {builder.sha256}"
