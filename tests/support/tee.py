"""The development TEE for tests: its keys at hand, or behind the real quoting service."""

import asyncio
import json
import shutil
import threading
from datetime import UTC, datetime, timedelta
from pathlib import Path

from chiron.api.software_tee.pki import CRL_VALIDITY
from chiron.api.software_tee.quote import EnclaveIdentity, raw_signature
from chiron.api.software_tee.tee import SoftwareTee, serve_quotes
from chiron.runtime.attestation.platform import Quoted, SealingPolicy
from chiron.runtime.attestation.software import SoftwarePlatform
from chiron.wire.attestation import AttestationPolicy, Collateral, TcbStatus

MEASUREMENT = bytes(range(32))
"""Of the image that simulated enclaves say they run."""
IMAGE = EnclaveIdentity(MEASUREMENT)
OTHER_IMAGE = EnclaveIdentity(b"\x43" * 32)


class PatchedTee(SoftwareTee):
    """A development TEE on a machine whose patch level has another status, or whose collateral ends soon."""

    status = TcbStatus.UP_TO_DATE
    life: timedelta | None = None
    """How long the collateral is good for that is asked for now; None: as usual."""

    def collateral(self, now: datetime) -> dict[str, str]:
        """See `SoftwareTee.collateral`."""
        if self.life is not None:
            self._collateral = None
            # It is backdated by a minute.
            now += self.life - CRL_VALIDITY + timedelta(minutes=1)
        fields = super().collateral(now)
        info = json.loads(fields["tcb_info"])
        info["tcbLevels"][0]["tcbStatus"] = str(self.status)
        raw = json.dumps(info, separators=(",", ":"))
        return fields | {
            "tcb_info": raw,
            "tcb_info_signature": raw_signature(self._tcb_signing.key, raw.encode()).hex(),
        }


def open_tee(directory: Path, status: TcbStatus = TcbStatus.UP_TO_DATE) -> PatchedTee:
    """A development TEE that keeps its keys in `directory`, on a machine of this patch level."""
    tee = PatchedTee.open(directory, datetime.now(UTC))
    tee.status = status
    return tee


def machine_of_the_same_maker(before: Path, directory: Path) -> Path:
    """A directory for a second machine's TEE, which stands under the root of the one in `before`."""
    directory.mkdir(parents=True)
    for name in ("root", "platform-ca", "tcb-signing"):
        shutil.copy(before / f"{name}.pem", directory)
    return directory


def policy_for(tee: SoftwareTee, measurement: bytes = MEASUREMENT) -> AttestationPolicy:
    """Accepts one image's enclaves, under this TEE's root."""
    return AttestationPolicy(software_root=tee.root_der, measurements=frozenset({measurement.hex()}))


class DirectPlatform:
    """The software TEE without its socket, which would be in our own event loop."""

    def __init__(self, tee: SoftwareTee, measurement: bytes = MEASUREMENT) -> None:
        self._tee = tee
        self._identity = EnclaveIdentity(measurement)

    def quote(self, report_data: bytes) -> Quoted:
        """See `Platform.quote`."""
        collateral = Collateral.model_validate(self._tee.collateral(datetime.now(UTC)))
        return Quoted(self._tee.quote(self._identity, report_data), collateral)

    def sealing_recipe(self) -> bytes:
        """See `Platform.sealing_recipe`."""
        return b""

    def sealing_key(self, policy: SealingPolicy, label: bytes, recipe: bytes = b"") -> bytes:
        """See `Platform.sealing_key`."""
        return self._tee.sealing_key(self._identity, policy, label)


class QuotingServices:
    """Real quoting services in a loop of their own: enclaves ask them with blocking sockets."""

    def __init__(self, directory: Path, status: TcbStatus = TcbStatus.UP_TO_DATE) -> None:
        self.tee = open_tee(directory / "tee", status)
        self._directory = directory
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()
        self._sockets: dict[EnclaveIdentity, Path] = {}

    def platform(self, identity: EnclaveIdentity = IMAGE) -> SoftwarePlatform:
        """An enclave of this identity, as it reaches its quoting service."""
        if identity not in self._sockets:
            path = self._directory / f"{len(self._sockets)}.sock"
            asyncio.run_coroutine_threadsafe(serve_quotes(self.tee, path, identity), self._loop).result()
            self._sockets[identity] = path
        return SoftwarePlatform(str(self._sockets[identity]))

    def close(self) -> None:
        """End all conversations and the loop."""
        asyncio.run_coroutine_threadsafe(self._finish(), self._loop).result()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    async def _finish(self) -> None:
        conversations = asyncio.all_tasks() - {asyncio.current_task()}
        for conversation in conversations:
            conversation.cancel()
        await asyncio.gather(*conversations, return_exceptions=True)
