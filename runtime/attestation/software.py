"""The development TEE as an enclave sees it: a Unix socket to the host's quoting service.

It protects nothing from the host. What it makes is evidence of the same form as SGX's, under a root that no
verifier trusts unless it was given explicitly.
"""

import logging
import socket

from pydantic import ValidationError

from chiron.runtime.attestation.platform import Quoted
from chiron.runtime.errors import PlatformUnavailable
from chiron.wire.encoding import WireModel
from chiron.wire.quoting import (
    LENGTH,
    MAX_REPLY_BYTES,
    QuoteRequest,
    QuotingReply,
    QuotingRequest,
    SealingKeyRequest,
    SealingPolicy,
    frame,
)

_LOG = logging.getLogger(__name__)
_TIMEOUT_S = 10.0


class SoftwarePlatform:
    """Client of the quoting service at a Unix socket path."""

    def __init__(self, path: str) -> None:
        self._path = path
        _LOG.warning("SOFTWARE TEE: development only, the host can read this enclave's memory")

    def quote(self, report_data: bytes) -> Quoted:
        """Quote report data: `Platform.quote`."""
        reply = self._ask(QuotingRequest(request=QuoteRequest(report_data=report_data)))
        if reply.quote is None or reply.collateral is None:
            raise PlatformUnavailable("the quoting service gave no quote")
        return Quoted(reply.quote, reply.collateral)

    def sealing_recipe(self) -> bytes:
        """An empty recipe (`Platform.sealing_recipe`): this TEE's keys never change."""
        return b""

    def sealing_key(self, policy: SealingPolicy, label: bytes, recipe: bytes = b"") -> bytes:
        """A sealing key of this measurement or signer: `Platform.sealing_key`."""
        if recipe:
            raise PlatformUnavailable("the sealed object was not sealed by this kind of TEE")
        reply = self._ask(QuotingRequest(request=SealingKeyRequest(policy=policy, label=label)))
        if reply.sealing_key is None:
            raise PlatformUnavailable("the quoting service gave no key")
        return reply.sealing_key

    def _ask(self, request: WireModel) -> QuotingReply:
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
                connection.settimeout(_TIMEOUT_S)
                connection.connect(self._path)
                connection.sendall(frame(request))
                with connection.makefile("rb") as stream:
                    (length,) = LENGTH.unpack(stream.read(LENGTH.size).ljust(LENGTH.size, b"\0"))
                    return QuotingReply.model_validate_json(stream.read(min(length, MAX_REPLY_BYTES)))
        except (OSError, ValidationError) as error:
            raise PlatformUnavailable("the quoting service did not answer") from error
