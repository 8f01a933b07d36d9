"""Step 8: what the platform's patch level is worth, and whether the policy accepts it."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TypeVar

from chiron.runtime.attestation.collateral import PlatformLevel, QeIdentity, QeLevel, TcbInfo
from chiron.runtime.attestation.pck import Platform
from chiron.runtime.attestation.steps import StepFailed
from chiron.wire.attestation import AttestationPolicy, TcbStatus

_OUT_OF_DATE = {
    TcbStatus.OUT_OF_DATE: TcbStatus.UP_TO_DATE,
    TcbStatus.OUT_OF_DATE_CONFIGURATION_NEEDED: TcbStatus.CONFIGURATION_NEEDED,
}
"""What is left of a status where a grace period forgives that it is out of date."""
_NEEDS_CONFIGURATION = frozenset(
    {
        TcbStatus.CONFIGURATION_NEEDED,
        TcbStatus.CONFIGURATION_AND_SW_HARDENING_NEEDED,
        TcbStatus.OUT_OF_DATE_CONFIGURATION_NEEDED,
    }
)


_AnyLevel = TypeVar("_AnyLevel", PlatformLevel, QeLevel)


@dataclass(frozen=True)
class TcbVerdict:
    """The TCB levels that platform and quoting enclave reach."""

    platform: PlatformLevel
    quoting_enclave: QeLevel

    @property
    def status(self) -> TcbStatus:
        """Both together, as Intel's verification library converges them."""
        return converge(self.platform.status, self.quoting_enclave.status)

    @property
    def advisories(self) -> tuple[str, ...]:
        """Open advisories of both, sorted."""
        return tuple(sorted({*self.platform.advisories, *self.quoting_enclave.advisories}))

    def status_within(self, grace: timedelta, at: datetime) -> TcbStatus:
        """The status, where a level that is out of date is forgiven until `grace` after its date.

        The rule of Intel's appraisal policy (`platform_grace_period`): date of the reached row + grace ≥ now.
        """

        def forgiven(level: PlatformLevel | QeLevel) -> TcbStatus:
            in_grace = level.status in _OUT_OF_DATE and at <= level.date + grace
            return _OUT_OF_DATE[level.status] if in_grace else level.status

        return converge(forgiven(self.platform), forgiven(self.quoting_enclave))


def match(info: TcbInfo, identity: QeIdentity, machine: Platform, qe_svn: int) -> TcbVerdict:
    """The highest TCB levels that platform and quoting enclave reach.

    Raises:
        StepFailed: not even the lowest is.
    """
    platform = _first(
        level
        for level in sorted(info.levels, key=_platform_order, reverse=True)
        if machine.pce_svn >= level.tcb.pce
        and all(have >= need.svn for have, need in zip(machine.components, level.tcb.components, strict=True))
    )
    enclave = _first(level for level in identity.levels if qe_svn >= level.tcb.svn)
    if platform is None or enclave is None:
        raise StepFailed("the platform reaches no TCB level")
    return TcbVerdict(platform, enclave)


def _platform_order(level: PlatformLevel) -> tuple[list[int], int]:
    return [component.svn for component in level.tcb.components], level.tcb.pce


def _first(levels: Iterable[_AnyLevel]) -> _AnyLevel | None:
    return next(iter(levels), None)


def converge(platform: TcbStatus, quoting_enclave: TcbStatus) -> TcbStatus:
    """The worse of the two (Intel SGX DCAP quote verification library, `convergeTcbStatus`)."""
    if TcbStatus.REVOKED in (platform, quoting_enclave):
        return TcbStatus.REVOKED
    if quoting_enclave not in _OUT_OF_DATE:
        return platform
    if platform in _NEEDS_CONFIGURATION:
        return TcbStatus.OUT_OF_DATE_CONFIGURATION_NEEDED
    return TcbStatus.OUT_OF_DATE


def check_accepted(verdict: TcbVerdict, policy: AttestationPolicy, at: datetime) -> str:
    """Check that the policy accepts status and advisories; return what was compared.

    Raises:
        StepFailed: it does not.
    """
    status = verdict.status_within(timedelta(days=policy.grace_days), at)
    detail = f"{verdict.status}; advisories {', '.join(verdict.advisories) or 'none'}"
    if status is not verdict.status:
        detail += f"; within {policy.grace_days} days' grace"
    if status not in policy.accepted_tcb:
        raise StepFailed(f"{detail}; accepted {', '.join(sorted(policy.accepted_tcb))}")
    if policy.accepted_advisories is not None:
        open_ones = [name for name in verdict.advisories if name not in policy.accepted_advisories]
        if open_ones:
            raise StepFailed(f"{detail}; not accepted: {', '.join(open_ones)}")
    return detail
