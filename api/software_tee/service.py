"""The quoting service: one Unix socket for each launched enclave, bound to the identity that was launched.

The enclave cannot choose what is quoted of it: identity comes from whoever measured and launched it.
"""

import asyncio
import logging
from datetime import UTC, datetime
from pathlib import Path

from pydantic import ValidationError

from chiron.api.software_tee.quote import EnclaveIdentity
from chiron.api.software_tee.tee import SoftwareTee
from chiron.wire.attestation import Collateral
from chiron.wire.quoting import (
    LENGTH,
    MAX_REQUEST_BYTES,
    QuoteRequest,
    QuotingReply,
    QuotingRequest,
    frame,
)

_LOG = logging.getLogger(__name__)


async def serve(tee: SoftwareTee, socket: Path, identity: EnclaveIdentity) -> asyncio.Server:
    """Serve quotes and sealing keys for `identity` on `socket` until the returned server is closed."""

    async def converse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                (length,) = LENGTH.unpack(await reader.readexactly(LENGTH.size))
                if length > MAX_REQUEST_BYTES:
                    break
                body = await reader.readexactly(length)
                writer.write(frame(_answer(tee, identity, QuotingRequest.model_validate_json(body))))
                await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        except ValidationError:
            _LOG.warning("an enclave sent the quoting service a malformed request")
        finally:
            writer.close()

    return await asyncio.start_unix_server(converse, path=socket)


def _answer(tee: SoftwareTee, identity: EnclaveIdentity, message: QuotingRequest) -> QuotingReply:
    request = message.request
    if isinstance(request, QuoteRequest):
        collateral = Collateral.model_validate(tee.collateral(datetime.now(UTC)))
        return QuotingReply(quote=tee.quote(identity, request.report_data), collateral=collateral)
    return QuotingReply(sealing_key=tee.sealing_key(identity, request.policy, request.label))
