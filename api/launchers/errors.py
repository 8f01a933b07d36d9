"""Errors of launchers.

GatewayError
└── LauncherError               launcher-failed
    ├── BubblewrapMissing       bubblewrap-missing      there is no bwrap program here
    ├── ConfinementUnavailable  confinement-unavailable this machine does not let us confine an enclave
    └── EnclaveNotStarted       enclave-not-started     one enclave did not come up
"""

from chiron.api.errors import GatewayError


class LauncherError(GatewayError):
    """Base of all."""

    code = "launcher-failed"


class BubblewrapMissing(LauncherError):
    """Neither the package's nor the system's bwrap is there."""

    code = "bubblewrap-missing"


class ConfinementUnavailable(LauncherError):
    """Namespaces could not be made; without them no enclave is started."""

    code = "confinement-unavailable"


class EnclaveNotStarted(LauncherError):
    """Nothing of it is left."""

    code = "enclave-not-started"
