"""Machines that the owner keeps what her jobs make for, beside those that they run on.

1. `add_machine` asks a gateway for evidence of its machine's key, over a fresh nonce, and verifies it by the
   owner's policy. It is kept whole, under a name of hers.
2. A grant names keys. Before it is sent, the evidence of each is verified again, by the policy as it is then,
   and must be of the code that the job runs: the key is that code's, on that machine.

So neither a machine of the host's choosing, nor one whose evidence holds no longer, comes into a grant.
"""

import secrets
from collections.abc import Callable, Iterable, Sequence
from datetime import datetime
from typing import Annotated

from pydantic import Field, StringConstraints, TypeAdapter, ValidationError

from chiron.client.errors import (
    ConfigurationInvalid,
    EvidenceRejected,
    GrantImpossible,
    MachineRefused,
    RecordMissing,
)
from chiron.client.evidence_facts import read_facts
from chiron.client.gateway_session import GatewaySession
from chiron.client.store import OwnerStore, read_private, write_private
from chiron.client.verifying import NONCE_BYTES, Verifier
from chiron.runtime.attestation.verify import Expected, VerifiedEvidence
from chiron.wire.attestation import Nonce, Role
from chiron.wire.encoding import WireModel, sha256_hex
from chiron.wire.machines import MAX_MACHINES, NO_JOB, MachineEvidence, MachineKey, machine_nonce

MachineName = Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9-]{0,31}$")]
_NAME: TypeAdapter[str] = TypeAdapter(MachineName)


class MachineRecord(WireModel):
    """A machine that was verified, and all that it takes to do that again."""

    name: MachineName
    told: MachineEvidence
    nonce: Nonce
    """Ours, which it was asked with."""
    added_at: int = Field(ge=0, lt=2**37)
    """Seconds since 1970."""

    @property
    def key(self) -> MachineKey:
        """What is sealed to."""
        public_key = self.told.evidence.claims.hpke_public_key
        return MachineKey(public_key=public_key or b"", recipe=self.told.recipe)

    @property
    def key_name(self) -> str:
        """Its SHA-256: how people are told which it is, and operators which to allow."""
        return sha256_hex(self.key.public_key)

    @property
    def measurement(self) -> str:
        """Of the code that the key is of."""
        return read_facts(self.told.evidence).quote.report.measurement.hex()

    @property
    def ppid(self) -> str:
        """Of the machine's processor package."""
        return read_facts(self.told.evidence).platform.ppid.hex()


class MachineBook:
    """The machines in an owner's store."""

    def __init__(self, store: OwnerStore) -> None:
        self._store = store

    def all(self) -> list[MachineRecord]:
        """Every machine, by name.

        Raises:
            RecordUnusable: a record is malformed, or others can read it.
        """
        directory = self._store.root / "machines"
        return [read_private(path, MachineRecord) for path in sorted(directory.glob("*.json"))]

    def named(self, name: str) -> MachineRecord:
        """
        Raises:
            RecordMissing: no machine has this name.
        """
        path = self._store.root / "machines" / f"{checked_name(name)}.json"
        if not path.exists():
            raise RecordMissing(f"no machine is known as {name}: `chiron machine add {name}`")
        return read_private(path, MachineRecord)

    def keys(self, names: Iterable[str]) -> tuple[MachineKey, ...]:
        """The keys of the machines of these names, each once.

        Raises:
            RecordMissing: one is not known.
            ConfigurationInvalid: they are more than a grant holds.
        """
        keys = tuple(self.named(name).key for name in dict.fromkeys(names))
        if len(keys) > MAX_MACHINES:
            raise ConfigurationInvalid(f"a grant names at most {MAX_MACHINES} machines")
        return keys

    def save(self, record: MachineRecord) -> None:
        """Write a machine down, in place of what it was known by before.

        Raises:
            MachineRefused: the name is another machine's.
        """
        path = self._store.directory("machines") / f"{record.name}.json"
        if path.exists() and self.named(record.name).ppid != record.ppid:
            raise MachineRefused(
                f"{record.name} was another machine when it was added (PPID): `chiron machine remove "
                f"{record.name}` first, if that is meant",
                code="machine-changed",
            )
        write_private(path, record.model_dump_json(indent=1).encode())

    def remove(self, name: str) -> None:
        """Forget a machine. What was sealed to its key stays so.

        Raises:
            RecordMissing: no machine has this name.
        """
        self.named(name)
        (self._store.root / "machines" / f"{name}.json").unlink()


def checked_name(name: str) -> str:
    """
    Raises:
        ConfigurationInvalid: it is no name of a machine.
    """
    try:
        return _NAME.validate_python(name)
    except ValidationError:
        raise ConfigurationInvalid(
            "a machine's name has at most 32 small letters, digits and hyphens"
        ) from None


class MachineVerbs:
    """What `AsyncClient` does with machines."""

    gateway: GatewaySession
    store: OwnerStore
    _clock: Callable[[], datetime]
    _verifier: Verifier

    async def add_machine(self, name: str) -> VerifiedEvidence:
        """Verify the key of this gateway's machine, and keep it under this name.

        Raises:
            PolicyMissing: this client was given no policy.
            EvidenceRejected: a step did not hold; nothing was kept.
            MachineRefused: the name is another machine's.
        """
        checked_name(name)
        await self._verifier.policy()
        nonce = secrets.token_bytes(NONCE_BYTES)
        told = await self.gateway.machine(nonce)
        added_at = int(self._clock().timestamp())
        record = MachineRecord(name=name, told=told, nonce=nonce, added_at=added_at)
        verified = await self._verified_machine(record)
        MachineBook(self.store).save(record)
        return verified

    async def check_machines(self, keys: Sequence[MachineKey], measurement: str | None = None) -> None:
        """Verify again the machines that a grant or an order would name by these keys.

        `measurement` is that of the verified enclave that is to seal to them, once it is known.

        Raises:
            EvidenceRejected: a machine's evidence holds no longer by the policy as it is now.
            GrantImpossible: a key is of no known machine, or of other code than that enclave runs.
        """
        known = {record.key: record for record in MachineBook(self.store).all()} if keys else {}
        for key in keys:
            if (record := known.get(key)) is None:
                raise GrantImpossible("a machine is named that is not known", code="machine-unknown")
            found = (await self._verified_machine(record)).quote.measurement
            if measurement not in (None, found):
                raise GrantImpossible(
                    f"machine {record.name} was added with code {found}, and this is {measurement}: "
                    "nothing of it would open there. Add it again, from the same image",
                    code="machine-of-other-code",
                )

    async def _verified_machine(self, record: MachineRecord) -> VerifiedEvidence:
        nonce = machine_nonce(record.nonce, record.told.recipe)
        try:
            return await self._verifier.check(record.told.evidence, Expected(Role.MACHINE, NO_JOB, nonce))
        except EvidenceRejected as error:
            message = f"machine {record.name}: {error}; add it (again), once what stands there is acceptable"
            raise EvidenceRejected(message, code=error.code, steps=error.steps) from error
