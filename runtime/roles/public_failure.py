"""The public failure of a role that cannot go on: the operator's side is told one of a few codes, no more."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

import aiohttp

from chiron.ps.errors import ExchangeError, RolledBack
from chiron.runtime.channels.gateway_client import GatewayClient
from chiron.runtime.errors import AttestationError, EnclaveError, InputCorrupted, PeerLost, PlatformFailed
from chiron.wire.enclave_api import Progress
from chiron.wire.jobs import JobState

_KNOWN = (EnclaveError, ExchangeError, AttestationError, aiohttp.ClientError)


@asynccontextmanager
async def failing_publicly(gateway: GatewayClient) -> AsyncIterator[None]:
    """Report an `EnclaveError` as its public failure, then let it end the role.

    Raises:
        EnclaveError: whatever ended the block; errors of peers and of the platform become one, too.
    """
    try:
        yield
    except Exception as error:
        known = _known(error)
        if known is None:
            raise
        ended = _as_enclave_error(known)
        with suppress(EnclaveError):
            await gateway.progress(Progress(state=JobState.FAILED, failure=ended.public))
        raise ended from error


def _known(error: Exception) -> Exception | None:
    """The error itself or the first in its group that has a public name; None if there is none."""
    if isinstance(error, ExceptionGroup):
        return next((known for inner in error.exceptions if (known := _known(inner))), None)
    return error if isinstance(error, _KNOWN) else None


def _as_enclave_error(error: Exception) -> EnclaveError:
    if isinstance(error, EnclaveError):
        return error
    if isinstance(error, RolledBack):
        return InputCorrupted(error.code, "the host served the parameter server an old checkpoint")
    if isinstance(error, AttestationError):
        return PlatformFailed(error.code, "the platform gave no evidence or key")
    code = error.code if isinstance(error, ExchangeError) else "peer-unreachable"
    return PeerLost(code, "the parameter server does not answer as it should")
