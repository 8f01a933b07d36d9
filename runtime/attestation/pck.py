"""What a PCK certificate says of its platform: its SGX extension.

Intel SGX PCK Certificate and CRL Profile Specification, rev. 1.5, section 1.3.5. dcap-qvl reads it with a
parser of its own, and must read the same (`chiron.runtime.attestation.second_opinion`).
"""

from dataclasses import dataclass
from enum import IntEnum

from cryptography import x509

from chiron.runtime.attestation import der
from chiron.runtime.attestation.steps import StepFailed

SGX_EXTENSION = x509.ObjectIdentifier("1.2.840.113741.1.13.1")
COMPONENTS = 16
_EXTENSION_NAME = bytes.fromhex("2a864886f84d010d01")
"""The same as DER content."""


class SgxType(IntEnum):
    """How a platform protects its enclaves' memory."""

    STANDARD = 0
    """Encryption, integrity and freshness, by a tree of counters; small memories of older processors."""
    SCALABLE = 1
    """Encryption alone: whoever reaches the memory's wires sees repetitions, and can put old content back."""
    SCALABLE_WITH_INTEGRITY = 2
    """Encryption and integrity."""


@dataclass(frozen=True)
class Platform:
    """One platform, as Intel certified it."""

    ppid: bytes
    """Names the processor package, whatever is installed on it."""
    components: tuple[int, ...]
    """The SVNs of its 16 TCB components."""
    cpu_svn: bytes
    pce_svn: int
    pce_id: bytes
    fmspc: bytes
    """Names the processor's family, model and stepping."""
    sgx_type: SgxType
    instance_id: bytes | None = None
    """Names one set of keys of a multi-package platform; new after a reset of SGX."""
    dynamic_platform: bool | None = None
    """Whether packages can be added to the platform while it runs. None: the certificate does not say."""
    cached_keys: bool | None = None
    """Whether Intel's registration service keeps the platform's root keys."""
    smt: bool | None = None
    """Whether hyper-threads are on: then another program can run on the same core as the enclave."""


def read_platform(pck: x509.Certificate) -> Platform:
    """The platform that a PCK certificate is of.

    Raises:
        StepFailed: the certificate has no SGX extension, or one that the profile does not allow.
    """
    try:
        extension = pck.extensions.get_extension_for_oid(SGX_EXTENSION).value
        if not isinstance(extension, x509.UnrecognizedExtension):
            raise StepFailed("the PCK certificate's SGX extension cannot be read")
        return _platform(extension.value)
    except (x509.ExtensionNotFound, ValueError, KeyError, TypeError) as error:
        raise StepFailed("the PCK certificate's SGX extension cannot be read") from error


def _platform(extension: bytes) -> Platform:
    facts = _by_name(der.read(extension), "")
    tcb = _by_name(facts["2"], "2.")
    told = _by_name(facts["7"], "7.") if "7" in facts else {}
    return Platform(
        ppid=facts["1"].octets(16),
        components=tuple(tcb[f"2.{place}"].number(0xFF) for place in range(1, COMPONENTS + 1)),
        cpu_svn=tcb["2.18"].octets(16),
        pce_svn=tcb["2.17"].number(0xFFFF),
        pce_id=facts["3"].octets(2),
        fmspc=facts["4"].octets(6),
        sgx_type=SgxType(facts["5"].number(max(SgxType), der.ENUMERATED)),
        instance_id=facts["6"].octets(16) if "6" in facts else None,
        dynamic_platform=told["7.1"].flag() if "7.1" in told else None,
        cached_keys=told["7.2"].flag() if "7.2" in told else None,
        smt=told["7.3"].flag() if "7.3" in told else None,
    )


def _by_name(entries: der.Value, prefix: str) -> dict[str, der.Value]:
    """A sequence of names and values, by what follows the extension's own name, which is there once each.

    Raises:
        ValueError: it is something else.
    """
    named: dict[str, der.Value] = {}
    for entry in entries.items():
        name, value = entry.items()
        number = _name(name)
        if number in named or not number.startswith(prefix):
            raise ValueError("an entry stands twice, or where it does not belong")
        named[number] = value
    return named


def _name(value: der.Value) -> str:
    """What follows the extension's own name; one byte a number, as all that are defined are small."""
    rest = value.content.removeprefix(_EXTENSION_NAME)
    if value.tag != der.OBJECT_IDENTIFIER or len(rest) == len(value.content) or max(rest, default=128) > 127:
        raise ValueError("not a name below the SGX extension's")
    return ".".join(map(str, rest))
