"""What the attributes and MISCSELECT of an enclave must be (Intel SDM volume 3D, section 37.7).

The signer of an enclave chooses them and the processor reports them. A bit that nobody has defined yet may
weaken an enclave in a way that nobody can judge yet: it is refused.
"""

from enum import IntFlag

from chiron.runtime.attestation.quote import Report


class Flag(IntFlag):
    """ATTRIBUTES.FLAGS."""

    INIT = 1 << 0
    DEBUG = 1 << 1
    MODE64BIT = 1 << 2
    PROVISION_KEY = 1 << 4
    LAUNCH_KEY = 1 << 5
    CET = 1 << 6
    KSS = 1 << 7
    AEX_NOTIFY = 1 << 10


_REQUIRED = int(Flag.INIT | Flag.MODE64BIT)
_HARMLESS = int(Flag.CET | Flag.KSS | Flag.AEX_NOTIFY)
"""Control-flow enforcement, more keys of its own, word of interrupts: none opens the enclave to its host.

As integers: the complement of an `IntFlag` has no bits but those that it defines.
"""

_X87_AND_SSE = 0x3
_AVX = 0x4
_MPX = 0x18
_AVX_512 = 0xE0
_PKRU = 0x200
_AMX = 0x6_0000
_APX = 0x8_0000
_XFRM = _X87_AND_SSE | _AVX | _MPX | _AVX_512 | _PKRU | _AMX | _APX
"""Register state that enclaves may use: all of XCR0 that is defined."""
_EXINFO, _CPINFO = 0x1, 0x2
_MISC_SELECT = _EXINFO | _CPINFO
"""What the processor writes of an exception into the enclave's own memory; Occlum asks for it."""


def attributes_fault(report: Report) -> str | None:
    """What of the enclave's attributes or MISCSELECT no policy can accept; None where all is well."""
    flags, state = report.flags, report.xfrm
    for flag in (Flag.DEBUG, Flag.PROVISION_KEY, Flag.LAUNCH_KEY):
        if flags & flag:
            return f"{flag.name} is set in the attributes {flags:#x}"
    if flags & _REQUIRED != _REQUIRED:
        return f"INIT and MODE64BIT are not both set in the attributes {flags:#x}"
    if flags & ~(_REQUIRED | _HARMLESS):
        return f"reserved bits are set in the attributes {flags:#x}"
    if state & ~_XFRM or not _possible(state):
        return f"XFRM {state:#x} is none that a processor has"
    if report.misc_select & ~_MISC_SELECT:
        return f"reserved bits are set in MISCSELECT {report.misc_select:#x}"
    return None


def _possible(state: int) -> bool:
    """Whether a processor can have exactly these parts of its state enabled (SDM volume 1, section 13.3)."""
    whole = all(state & part in (0, part) for part in (_MPX, _AVX_512, _AMX))
    return whole and state & _X87_AND_SSE == _X87_AND_SSE and (not state & _AVX_512 or bool(state & _AVX))
