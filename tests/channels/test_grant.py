"""A grant opens for the enclave and the job that it was given to, and for nothing else."""

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chiron.runtime.errors import GrantRefused
from chiron.runtime.roles.grant import open_grant
from chiron.runtime.sealing import hpke
from chiron.wire.attestation import AttestationPolicy
from chiron.wire.grants import Grant
from chiron.wire.jobs import JobSpec
from chiron.wire.labels import GRANT, QUERY, Label
from tests.support.server_door import DATASET_KEY
from tests.support.specs import OTHER_JOB, dataset_manifest, job_spec

KEY = hpke.PrivateKey.generate()
SPEC = job_spec()


def _grant(**changes: Any) -> Grant:
    honest = {
        "job": SPEC.job,
        "dataset_key": DATASET_KEY,
        "dataset_digest": SPEC.dataset.digest(),
        "spec_digest": SPEC.digest(),
        "attestation": AttestationPolicy(measurements=frozenset({"0" * 64})),
        "owner_public_key": KEY.public_bytes,
        "owner_signing_key": bytes(32),
        "issued_at": 1_772_000_000,
        "expires_at": 2**36,
        "share": bytes(32),
    }
    return Grant.model_validate(honest | changes)


def _sealed(plaintext: bytes, *, job: str = SPEC.job, label: Label = GRANT) -> bytes:
    return hpke.seal(KEY.public_bytes, plaintext, label=label, context=bytes.fromhex(job))


def _refusal(sealed: bytes, key: hpke.PrivateKey = KEY, spec: JobSpec = SPEC) -> GrantRefused:
    with pytest.raises(GrantRefused) as refused:
        open_grant(sealed, key, spec)
    return refused.value


def test_grant_for_this_job_opens() -> None:
    grant = _grant()
    assert open_grant(_sealed(grant.model_dump_json().encode()), KEY, SPEC) == grant


def test_grant_sealed_to_another_key_is_unreadable() -> None:
    sealed = _sealed(_grant().model_dump_json().encode())
    assert _refusal(sealed, hpke.PrivateKey.generate()).code == "grant-unreadable"


def test_grant_sealed_for_another_job_or_purpose_is_unreadable() -> None:
    plaintext = _grant().model_dump_json().encode()
    assert _refusal(_sealed(plaintext, job=OTHER_JOB)).code == "grant-unreadable"
    assert _refusal(_sealed(plaintext, label=QUERY)).code == "grant-unreadable"


def test_grant_that_names_another_job_is_refused() -> None:
    sealed = _sealed(_grant(job=OTHER_JOB).model_dump_json().encode())
    assert _refusal(sealed).code == "grant-for-another-job"


def test_grant_is_refused_where_the_host_changed_the_spec() -> None:
    sealed = _sealed(_grant().model_dump_json().encode())
    assert _refusal(sealed, spec=job_spec(exchange={"trainers": 3})).code == "grant-spec-mismatch"


def test_grant_for_another_dataset_is_refused() -> None:
    other = dataset_manifest(dataset_id="e" * 32).digest()
    sealed = _sealed(_grant(dataset_digest=other).model_dump_json().encode())
    assert _refusal(sealed).code == "grant-dataset-mismatch"


def test_malformed_grant_is_refused_without_quoting_it() -> None:
    fields = json.loads(_grant().model_dump_json()) | {"surprise": 1}
    error = _refusal(_sealed(json.dumps(fields).encode()))
    assert error.code == "grant-malformed"
    assert error.__cause__ is None
    assert fields["dataset_key"] not in repr(error)


@settings(max_examples=40, deadline=None)
@given(place=st.integers(0, 2**16), flip=st.integers(1, 255))
def test_one_changed_byte_anywhere_makes_it_unreadable(place: int, flip: int) -> None:
    sealed = bytearray(_sealed(_grant().model_dump_json().encode()))
    sealed[place % len(sealed)] ^= flip
    assert _refusal(bytes(sealed)).code == "grant-unreadable"


@settings(max_examples=40, deadline=None)
@given(garbage=st.binary(max_size=3000))
def test_garbage_is_unreadable(garbage: bytes) -> None:
    assert _refusal(garbage).code == "grant-unreadable"
