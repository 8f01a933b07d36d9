"""A model moves from enclave A to enclave B by its owner's order, and in no other way."""

import os
import subprocess
import sys
from collections.abc import Collection
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from chiron.api.software_tee.quote import EnclaveIdentity
from chiron.client.upgrading import sign_order
from chiron.runtime.attestation.platform import attest
from chiron.runtime.errors import ModelUnusable, UpgradeRefused
from chiron.runtime.roles.sealed_model import ModelHeader, open_model, seal_model
from chiron.runtime.roles.upgrade import Transfer, give, take
from chiron.runtime.sealing.hpke import PrivateKey
from chiron.runtime.sealing.machine_key import own_key
from chiron.runtime.sealing.sealer import Sealer
from chiron.wire import objects
from chiron.wire.attestation import Claims, Evidence, Role
from chiron.wire.encoding import sha256_hex
from chiron.wire.grants import PredictionPolicy, SignedUpgradeOrder, UpgradeMail, UpgradeOrder
from chiron.wire.labels import MODEL
from tests.support.server_door import policy
from tests.support.specs import OTHER_JOB, job_spec
from tests.support.tee import IMAGE, OTHER_IMAGE, DirectPlatform, QuotingServices, open_tee

SPEC = job_spec()
OWNER = Ed25519PrivateKey.from_private_bytes(b"\x09" * 32)
NONCE = b"\x0c" * 32
STRANGER = EnclaveIdentity(b"\x44" * 32)
ONNX = b"the model"
SHARE = b"\x5a" * 32


@dataclass
class Enclave:
    """One predictor enclave of some code on the development TEE."""

    quoting: QuotingServices
    identity: EnclaveIdentity
    job: str = SPEC.job
    key: PrivateKey = field(default_factory=PrivateKey.generate)

    @property
    def sealer(self) -> Sealer:
        return Sealer(self.quoting.platform(self.identity), MODEL, SHARE)

    def attested(self, nonce: bytes, **changes: Any) -> Evidence:
        honest = {
            "role": Role.PREDICTOR,
            "job": self.job,
            "hpke_public_key": self.key.public_bytes,
            "owner_key_sha256": sha256_hex(OWNER.public_key().public_bytes_raw()),
            "nonce": nonce,
        }
        return attest(self.quoting.platform(self.identity), Claims.model_validate(honest | changes))

    def sealed_model(self) -> bytes:
        header = ModelHeader(
            job=SPEC.job,
            spec_digest=SPEC.digest(),
            prediction=PredictionPolicy(),
            owner_signing_key=OWNER.public_key().public_bytes_raw(),
            usable=True,
        )
        return seal_model(SPEC, header, ONNX, self.sealer)

    def give(self, signed: SignedUpgradeOrder, taker: Evidence, sealed: bytes | None = None) -> Transfer:
        return give(
            signed,
            taker,
            spec=SPEC,
            sealed_model=sealed or self.sealed_model(),
            platform=self.quoting.platform(self.identity),
            share=SHARE,
            key=self.key,
            attested=self.attested,
            at=datetime.now(UTC),
        )

    def take(self, signed: SignedUpgradeOrder, transfer: Transfer, allowed: Collection[str] = ()) -> bytes:
        return take(
            signed,
            transfer,
            spec=SPEC,
            key=self.key,
            platform=self.quoting.platform(self.identity),
            at=datetime.now(UTC),
            allowed=allowed,
        )


@pytest.fixture
def old(quoting: QuotingServices) -> Enclave:
    return Enclave(quoting, IMAGE)


@pytest.fixture
def new(quoting: QuotingServices) -> Enclave:
    return Enclave(quoting, OTHER_IMAGE)


def order(quoting: QuotingServices, giver: Enclave, taker: Enclave, **changes: Any) -> UpgradeOrder:
    honest = {
        "job": SPEC.job,
        "old": policy(quoting, IMAGE),
        "new": policy(quoting, OTHER_IMAGE),
        "nonce": NONCE,
        "taker_key_sha256": sha256_hex(taker.key.public_bytes),
        "giver_key_sha256": sha256_hex(giver.key.public_bytes),
    }
    return UpgradeOrder.model_validate(honest | changes)


@pytest.fixture
def signed(quoting: QuotingServices, old: Enclave, new: Enclave) -> SignedUpgradeOrder:
    return sign_order(order(quoting, old, new), OWNER)


def refused(code: str) -> Any:
    return pytest.raises(UpgradeRefused, check=lambda error: error.code == code)


def test_model_moves_to_the_new_code_and_opens_there(
    old: Enclave, new: Enclave, signed: SignedUpgradeOrder
) -> None:
    transfer = old.give(signed, new.attested(NONCE))
    sealed = new.take(signed, transfer)
    assert len(sealed) == objects.model(SPEC).stored_bytes
    header, onnx = open_model(SPEC, sealed, new.sealer)
    assert onnx == ONNX
    assert header.owner_signing_key == OWNER.public_key().public_bytes_raw()
    with pytest.raises(ModelUnusable):
        open_model(SPEC, sealed, old.sealer)


def test_model_that_moved_opens_on_the_machines_that_the_order_names(
    old: Enclave, new: Enclave, quoting: QuotingServices, tmp_path: Path
) -> None:
    """For the newer code only."""
    there = open_tee(tmp_path / "tee")
    machine = own_key(DirectPlatform(there, OTHER_IMAGE.measurement))
    signed = sign_order(order(quoting, old, new, machines=(machine,)), OWNER)
    transfer = old.give(signed, new.attested(NONCE))
    with refused("machine-not-allowed"):
        new.take(signed, transfer)
    sealed = new.take(signed, transfer, allowed=[sha256_hex(machine.public_key)])
    assert len(sealed) == objects.model(SPEC).stored_bytes
    opens = Sealer(DirectPlatform(there, OTHER_IMAGE.measurement), MODEL, SHARE)
    assert open_model(SPEC, sealed, opens)[1] == ONNX
    for other in (DirectPlatform(there, IMAGE.measurement), quoting.platform(STRANGER)):
        with pytest.raises(ModelUnusable, check=lambda error: error.code == "sealed-elsewhere"):
            open_model(SPEC, sealed, Sealer(other, MODEL, SHARE))


def test_model_that_moved_opens_with_the_owners_share_only(
    old: Enclave, new: Enclave, signed: SignedUpgradeOrder
) -> None:
    sealed = new.take(signed, old.give(signed, new.attested(NONCE)))
    for share in (None, bytes(32)):
        with pytest.raises(ModelUnusable):
            open_model(SPEC, sealed, Sealer(new.quoting.platform(new.identity), MODEL, share))


def test_order_and_evidence_travel_as_mail(old: Enclave, new: Enclave, signed: SignedUpgradeOrder) -> None:
    transfer = old.give(signed, new.attested(NONCE))
    mail = UpgradeMail(order=signed, peer=transfer.evidence)
    again = UpgradeMail.model_validate_json(mail.model_dump_json())
    new.take(again.order, Transfer(again.peer, transfer.sealed))


class TestGiving:
    """Enclave A hands the model to nobody that the owner did not name."""

    def test_order_that_the_owner_did_not_sign(
        self, old: Enclave, new: Enclave, quoting: QuotingServices
    ) -> None:
        forged = sign_order(order(quoting, old, new), Ed25519PrivateKey.generate())
        with refused("upgrade-unsigned"):
            old.give(forged, new.attested(NONCE))

    def test_order_that_was_altered(self, old: Enclave, quoting: QuotingServices) -> None:
        """The host puts its own code into a signed order."""
        stranger = Enclave(quoting, STRANGER)
        signed = sign_order(order(quoting, old, stranger), OWNER)
        evil = order(quoting, old, stranger, new=policy(quoting, STRANGER))
        altered = signed.model_copy(update={"order": evil})
        with refused("upgrade-unsigned"):
            old.give(altered, stranger.attested(NONCE))

    def test_order_for_another_job(self, old: Enclave, new: Enclave, quoting: QuotingServices) -> None:
        other = sign_order(order(quoting, old, new, job=OTHER_JOB), OWNER)
        with refused("upgrade-for-another-job"):
            old.give(other, new.attested(NONCE))

    def test_taker_of_other_code(
        self, old: Enclave, quoting: QuotingServices, signed: SignedUpgradeOrder
    ) -> None:
        with refused("evidence-measurement"):
            old.give(signed, Enclave(quoting, STRANGER).attested(NONCE))

    def test_taker_whose_evidence_is_over_another_nonce(
        self, old: Enclave, new: Enclave, signed: SignedUpgradeOrder
    ) -> None:
        with refused("evidence-nonce"):
            old.give(signed, new.attested(bytes(32)))

    def test_taker_of_another_role_or_job(
        self, old: Enclave, new: Enclave, signed: SignedUpgradeOrder
    ) -> None:
        for changes in (
            {"job": OTHER_JOB},
            {"role": Role.PARAMETER_SERVER, "tls_ca_sha256": "0" * 64, "owner_key_sha256": None},
        ):
            with refused("evidence-role-and-job"):
                old.give(signed, new.attested(NONCE, **changes))

    def test_taker_whose_key_was_replaced(
        self, old: Enclave, new: Enclave, signed: SignedUpgradeOrder
    ) -> None:
        evidence = new.attested(NONCE)
        claims = evidence.claims.model_copy(update={"hpke_public_key": PrivateKey.generate().public_bytes})
        with refused("evidence-claims"):
            old.give(signed, evidence.model_copy(update={"claims": claims}))

    def test_another_start_of_the_same_code(
        self, old: Enclave, quoting: QuotingServices, signed: SignedUpgradeOrder
    ) -> None:
        """The host asks a second taker for evidence over the order's nonce, which it knows."""
        with refused("upgrade-for-another-taker"):
            old.give(signed, Enclave(quoting, OTHER_IMAGE).attested(NONCE))

    def test_another_start_of_the_giver(
        self, old: Enclave, new: Enclave, quoting: QuotingServices, signed: SignedUpgradeOrder
    ) -> None:
        """The host has it given once more, by a start that the owner did not name."""
        with refused("upgrade-for-another-giver"):
            Enclave(quoting, IMAGE).give(signed, new.attested(NONCE), old.sealed_model())

    def test_enclave_that_the_model_is_not_sealed_to_gives_nothing(
        self, old: Enclave, new: Enclave, quoting: QuotingServices, signed: SignedUpgradeOrder
    ) -> None:
        stranger = Enclave(quoting, STRANGER)
        with pytest.raises(ModelUnusable):
            stranger.give(signed, new.attested(NONCE), old.sealed_model())


class TestTaking:
    """Enclave B takes nothing but what a named enclave gave it."""

    def test_transfer_that_the_host_made_up(
        self, new: Enclave, quoting: QuotingServices, signed: SignedUpgradeOrder
    ) -> None:
        """A model sealed to B's public key by someone who is no enclave at all, with someone's evidence."""
        from chiron.runtime.sealing import hpke
        from chiron.wire.labels import UPGRADE

        sealed = hpke.seal(new.key.public_bytes, b"evil", label=UPGRADE, context=bytes.fromhex(SPEC.job))
        borrowed = Enclave(quoting, IMAGE).attested(NONCE)
        with refused("evidence-nonce"):
            new.take(signed, Transfer(evidence=borrowed, sealed=sealed))

    def test_giver_of_other_code(
        self, new: Enclave, quoting: QuotingServices, signed: SignedUpgradeOrder
    ) -> None:
        stranger = Enclave(quoting, STRANGER)
        generous = sign_order(order(quoting, stranger, new, old=policy(quoting, STRANGER)), OWNER)
        transfer = stranger.give(generous, new.attested(NONCE))
        with refused("evidence-measurement"):
            new.take(signed, transfer)

    def test_another_start_of_the_giver(
        self, old: Enclave, new: Enclave, quoting: QuotingServices, signed: SignedUpgradeOrder
    ) -> None:
        again = Enclave(quoting, IMAGE)
        transfer = again.give(sign_order(order(quoting, again, new), OWNER), new.attested(NONCE))
        with refused("upgrade-for-another-giver"):
            new.take(signed, transfer)

    def test_order_that_the_models_owner_did_not_sign(
        self, old: Enclave, new: Enclave, quoting: QuotingServices, signed: SignedUpgradeOrder
    ) -> None:
        transfer = old.give(signed, new.attested(NONCE))
        with refused("upgrade-unsigned"):
            new.take(sign_order(order(quoting, old, new), Ed25519PrivateKey.generate()), transfer)

    def test_transfer_to_another_start_of_the_same_code(
        self, old: Enclave, new: Enclave, quoting: QuotingServices, signed: SignedUpgradeOrder
    ) -> None:
        transfer = old.give(signed, new.attested(NONCE))
        with refused("upgrade-unreadable"):
            Enclave(quoting, OTHER_IMAGE).take(signed, transfer)

    @settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
    @given(data=st.data())
    def test_altered_transfer(
        self, data: st.DataObject, old: Enclave, new: Enclave, signed: SignedUpgradeOrder
    ) -> None:
        transfer = old.give(signed, new.attested(NONCE))
        place = data.draw(st.integers(0, len(transfer.sealed) - 1))
        altered = bytearray(transfer.sealed)
        altered[place] ^= data.draw(st.integers(1, 255))
        with refused("evidence-nonce"):
            new.take(signed, Transfer(transfer.evidence, bytes(altered)))


def test_transfers_size_says_nothing_of_the_model(
    old: Enclave, new: Enclave, signed: SignedUpgradeOrder
) -> None:
    transfer = old.give(signed, new.attested(NONCE))
    header, _ = open_model(SPEC, old.sealed_model(), old.sealer)
    larger = seal_model(SPEC, header, b"x" * 10_000, old.sealer)
    assert len(old.give(signed, new.attested(NONCE), larger).sealed) == len(transfer.sealed)
    assert len(transfer.sealed) == objects.transfer(SPEC).stored_bytes


def test_canonical_order_is_the_same_in_every_process() -> None:
    """Sets of strings iterate in another order in each process; a signature must hold in all of them."""
    program = (
        "from chiron.wire.attestation import AttestationPolicy as P, TcbStatus as T\n"
        "from chiron.wire.encoding import canonical_json\n"
        "from chiron.wire.contract import BuilderManifest as M, Envelope as E, Task\n"
        "names = [f'{n:064x}' for n in range(8)]\n"
        "advisories = [f'INTEL-SA-{n:05}' for n in range(8)]\n"
        "policy = P(measurements=names, accepted_tcb=list(T)[:6], accepted_advisories=advisories)\n"
        "manifest = M(name='m', version='1', tasks=list(Task), envelope=E(max_parameters=1))\n"
        "print(canonical_json(policy), canonical_json(manifest))\n"
    )
    told = {
        subprocess.run(
            [sys.executable, "-c", program],
            env=os.environ | {"PYTHONHASHSEED": seed},
            capture_output=True,
            check=True,
        ).stdout
        for seed in ("1", "2", "3")
    }
    assert len(told) == 1
