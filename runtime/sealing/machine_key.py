"""The key pair by which enclaves on other machines seal to this code on this machine.

It is derived from the platform's sealing key for this very measurement, so that it needs no storage: whoever
has the recipe finds it again, after restarts and updates, and nobody but this code on this machine can.
"""

from collections.abc import Collection, Iterable

from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from chiron.runtime.attestation.platform import Platform, SealingPolicy
from chiron.runtime.errors import OpenFailed, PlatformUnavailable
from chiron.runtime.sealing import hpke
from chiron.wire import codes
from chiron.wire.encoding import sha256_hex
from chiron.wire.labels import MACHINE, MACHINE_KEY, Label
from chiron.wire.machines import MachineKey

SECRET_BYTES = 32
SEALED_BYTES = SECRET_BYTES + hpke.OVERHEAD_BYTES


def private_key(platform: Platform, recipe: bytes) -> hpke.PrivateKey:
    """The private half that belongs to this recipe.

    Raises:
        PlatformUnavailable: the platform gives no key for it.
    """
    seed = platform.sealing_key(SealingPolicy.MEASUREMENT, MACHINE_KEY, recipe)
    raw = HKDF(algorithm=SHA256(), length=hpke.PRIVATE_KEY_BYTES, salt=None, info=MACHINE_KEY).derive(seed)
    return hpke.PrivateKey.from_bytes(raw)


def own_key(platform: Platform) -> MachineKey:
    """This machine's key as of today.

    Raises:
        PlatformUnavailable: the platform gives none.
    """
    recipe = platform.sealing_recipe()
    return MachineKey(public_key=private_key(platform, recipe).public_bytes, recipe=recipe)


def seal_secret(machine: MachineKey, secret: bytes, label: Label) -> bytes:
    """An object's secret, sealed to another machine: `SEALED_BYTES`. Who sealed it, it does not prove.

    Raises:
        OpenFailed: the machine's key is not a valid one.
    """
    try:
        return hpke.seal(machine.public_key, secret, label=MACHINE, context=label)
    except ValueError as error:
        raise OpenFailed("nothing can be sealed to the machine's key") from error


def refusal(platform: Platform, machines: Iterable[MachineKey], allowed: Collection[str]) -> str | None:
    """The code of why objects are not sealed to these keys, which an owner has named; None where they are.

    `allowed` has the SHA-256 of the keys that the operator lets owners name, as what its enclaves make is
    kept there. This very machine needs no leave. A key that is none is found here, and not at a checkpoint.
    """
    for machine in machines:
        if sha256_hex(machine.public_key) not in allowed and not _is_ours(platform, machine):
            return codes.MACHINE_NOT_ALLOWED
        try:
            seal_secret(machine, bytes(SECRET_BYTES), MACHINE)
        except OpenFailed:
            return "machine-key-invalid"
    return None


def _is_ours(platform: Platform, machine: MachineKey) -> bool:
    try:
        return private_key(platform, machine.recipe).public_bytes == machine.public_key
    except PlatformUnavailable:
        return False


def open_secret(platform: Platform, recipe: bytes, sealed: bytes, label: Label) -> bytes:
    """The secret that `seal_secret` sealed to this machine for this purpose.

    Raises:
        PlatformUnavailable, OpenFailed: it was not.
    """
    return hpke.open(private_key(platform, recipe), sealed, label=MACHINE, context=label)
