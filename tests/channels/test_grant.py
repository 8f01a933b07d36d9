"""A grant opens for the enclave and the job that it was given to, and for nothing else."""

import json
from datetime import UTC, datetime
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given, settings
from hypothesis import strategies as st

from chiron.runtime.errors import GrantRefused
from chiron.runtime.roles.grant import grant_name, open_grant
from chiron.runtime.sealing import hpke
from chiron.wire.attestation import AttestationPolicy
from chiron.wire.contract import Oblivious
from chiron.wire.encoding import sha256_hex
from chiron.wire.grants import Grant, SignedGrant
from chiron.wire.jobs import JobSpec
from chiron.wire.labels import GRANT, QUERY, Label
from tests.support.server_door import DATASET_KEY
from tests.support.specs import OTHER_JOB, dataset_manifest, job_spec

KEY = hpke.PrivateKey.generate()
OWNER = Ed25519PrivateKey.generate()
NOW = datetime(2026, 6, 1, tzinfo=UTC)
SPEC = job_spec()


def _grant(**changes: Any) -> Grant:
    honest = {
        "job": SPEC.job,
        "dataset_key": DATASET_KEY,
        "dataset_digest": SPEC.dataset.digest(),
        "spec_digest": SPEC.digest(),
        "attestation": AttestationPolicy(measurements=frozenset({"0" * 64})),
        "owner_public_key": KEY.public_bytes,
        "owner_signing_key": OWNER.public_key().public_bytes_raw(),
        "issued_at": 1_772_000_000,
        "expires_at": 2**36,
        "share": bytes(32),
    }
    return Grant.model_validate(honest | changes)


def _signed(grant: Grant, *, by: Ed25519PrivateKey = OWNER, to: hpke.PrivateKey = KEY) -> bytes:
    signature = by.sign(grant.signed_bytes(sha256_hex(to.public_bytes)))
    return SignedGrant(grant=grant, signature=signature).model_dump_json().encode()


def _sealed(plaintext: bytes, *, job: str = SPEC.job, label: Label = GRANT) -> bytes:
    return hpke.seal(KEY.public_bytes, plaintext, label=label, context=bytes.fromhex(job))


def _refusal(sealed: bytes, key: hpke.PrivateKey = KEY, spec: JobSpec = SPEC) -> GrantRefused:
    with pytest.raises(GrantRefused) as refused:
        open_grant(sealed, key, spec, NOW)
    return refused.value


def test_grant_for_this_job_opens() -> None:
    grant = _grant()
    assert open_grant(_sealed(_signed(grant)), KEY, SPEC, NOW) == grant


def test_grant_sealed_to_another_key_is_unreadable() -> None:
    sealed = _sealed(_signed(_grant()))
    assert _refusal(sealed, hpke.PrivateKey.generate()).code == "grant-unreadable"


def test_grant_sealed_for_another_job_or_purpose_is_unreadable() -> None:
    plaintext = _signed(_grant())
    assert _refusal(_sealed(plaintext, job=OTHER_JOB)).code == "grant-unreadable"
    assert _refusal(_sealed(plaintext, label=QUERY)).code == "grant-unreadable"


def test_grant_that_names_another_job_is_refused() -> None:
    sealed = _sealed(_signed(_grant(job=OTHER_JOB)))
    assert _refusal(sealed).code == "grant-for-another-job"


def test_grant_is_refused_where_the_host_changed_the_spec() -> None:
    sealed = _sealed(_signed(_grant()))
    assert _refusal(sealed, spec=job_spec(exchange={"trainers": 3})).code == "grant-spec-mismatch"


def test_grant_whose_addresses_are_not_the_spec_s_is_refused() -> None:
    """The grant repeats what its spec's digest says already: a spec that says less never runs."""
    assert SPEC.oblivious is Oblivious.CLAMPED
    assert _refusal(_sealed(_signed(_grant(oblivious=Oblivious.STRICT)))).code == "grant-spec-mismatch"
    strict = job_spec(oblivious=Oblivious.STRICT)
    for_strict = {"spec_digest": strict.digest(), "dataset_digest": strict.dataset.digest()}
    clamped = _sealed(_signed(_grant(oblivious=Oblivious.CLAMPED, **for_strict)))
    assert _refusal(clamped, spec=strict).code == "grant-spec-mismatch"
    grant = _grant(oblivious=Oblivious.STRICT, **for_strict)
    assert open_grant(_sealed(_signed(grant)), KEY, strict, NOW) == grant


def test_grant_for_another_dataset_is_refused() -> None:
    other = dataset_manifest(dataset_id="e" * 32).digest()
    sealed = _sealed(_signed(_grant(dataset_digest=other)))
    assert _refusal(sealed).code == "grant-dataset-mismatch"


def test_malformed_grant_is_refused_without_quoting_it() -> None:
    fields = json.loads(_signed(_grant())) | {"surprise": 1}
    error = _refusal(_sealed(json.dumps(fields).encode()))
    assert error.code == "grant-malformed"
    assert error.__cause__ is None
    assert fields["grant"]["dataset_key"] not in repr(error)


@pytest.mark.parametrize(
    "changes",
    [{"by": Ed25519PrivateKey.generate()}, {"to": hpke.PrivateKey.generate()}],
    ids=["by another", "for another start"],
)
def test_grant_that_its_owner_did_not_sign_for_this_enclave_is_refused(changes: dict[str, Any]) -> None:
    assert _refusal(_sealed(_signed(_grant(), **changes))).code == "grant-unsigned"


def test_grant_without_a_signature_is_refused() -> None:
    assert _refusal(_sealed(_grant().model_dump_json().encode())).code == "grant-malformed"


def test_a_changed_grant_is_not_the_one_that_was_signed() -> None:
    signature = SignedGrant.model_validate_json(_signed(_grant())).signature
    changed = SignedGrant(grant=_grant(expires_at=2**36 + 1), signature=signature)
    assert _refusal(_sealed(changed.model_dump_json().encode())).code == "grant-unsigned"


@pytest.mark.parametrize("issued_at", [0, 2**36], ids=["by now", "although the host set our clock back"])
def test_expired_grant_is_refused(issued_at: int) -> None:
    over = int(NOW.timestamp()) if issued_at == 0 else issued_at
    assert _refusal(_sealed(_signed(_grant(issued_at=issued_at, expires_at=over)))).code == "grant-expired"


def test_the_name_tells_grants_apart_by_what_enclaves_do_with_them() -> None:
    same = grant_name(_grant(issued_at=1, expires_at=2**35), SPEC.digest())
    assert same == grant_name(_grant(), SPEC.digest())
    others = (
        _grant(dataset_key=bytes(32)),
        _grant(share=b"\x01" * 32),
        _grant(owner_signing_key=bytes(32)),
        _grant(prediction={"top_k": 1}),
        _grant(capabilities={"granted": []}),
    )
    assert len({same, *(grant_name(other, SPEC.digest()) for other in others)}) == 1 + len(others)


@settings(max_examples=40, deadline=None)
@given(place=st.integers(0, 2**16), flip=st.integers(1, 255))
def test_one_changed_byte_anywhere_makes_it_unreadable(place: int, flip: int) -> None:
    sealed = bytearray(_sealed(_signed(_grant())))
    sealed[place % len(sealed)] ^= flip
    assert _refusal(bytes(sealed)).code == "grant-unreadable"


@settings(max_examples=40, deadline=None)
@given(garbage=st.binary(max_size=3000))
def test_garbage_is_unreadable(garbage: bytes) -> None:
    assert _refusal(garbage).code == "grant-unreadable"
