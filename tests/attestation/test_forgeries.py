"""The forgery suite: no forged evidence is accepted, and each is refused at the step that it forges."""

from datetime import timedelta

import pytest
from cryptography import x509
from hypothesis import given, settings
from hypothesis import strategies as st

from chiron.runtime.attestation.steps import Step
from chiron.runtime.attestation.verify import Expected, verify
from chiron.runtime.errors import EvidenceRefused
from chiron.wire.attestation import Collateral, Evidence, Role
from tests.attestation.mutants import Mutant, all_mutants
from tests.support.forge import JOB, NONCE, NOW, Platform, flipped, with_collateral, with_quote

EXPECTED = Expected(Role.PARAMETER_SERVER, JOB, NONCE)
OURS = Platform()
HONEST = OURS.evidence()
STRANGER = Platform(NOW - timedelta(days=2))
MUTANTS = list(all_mutants(OURS, STRANGER))


def test_there_are_many_mutants_and_every_step_but_the_log_and_the_keys_has_some() -> None:
    """Those two have tests of their own, in test_verify.py and tests/transparency."""
    print(f"{len(MUTANTS)} mutants")
    assert len(MUTANTS) >= 200
    assert len({mutant.name for mutant in MUTANTS}) == len(MUTANTS)
    assert {mutant.step for mutant in MUTANTS} == set(Step) - {Step.TRANSPARENCY, Step.KEY_BINDING}


def test_the_evidence_that_mutants_are_made_of_is_accepted() -> None:
    verified = verify(HONEST, OURS.policy(), EXPECTED, NOW)
    assert [result.step for result in verified.steps] == list(Step)
    assert all(result.passed for result in verified.steps)


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.name)
def test_mutant_is_refused_at_its_step(mutant: Mutant) -> None:
    policy = OURS.policy(**mutant.policy)
    with pytest.raises(EvidenceRefused) as refused:
        verify(mutant.evidence, policy, EXPECTED, NOW + mutant.later)
    assert refused.value.step is mutant.step, refused.value
    assert refused.value.code == f"evidence-{mutant.step.value}"
    *before, last = refused.value.steps
    assert all(result.passed for result in before)
    assert not last.passed
    assert last.detail
    assert [result.step for result in refused.value.steps] == list(Step)[: mutant.step.number]


@settings(max_examples=300, deadline=None)
@given(place=st.integers(0, len(HONEST.quote) - 1), mask=st.integers(1, 255))
def test_no_changed_byte_of_the_quote_is_accepted(place: int, mask: int) -> None:
    """A PEM text has bytes without meaning (line ends): there, the certificates must be the same ones."""
    forged = with_quote(HONEST, flipped(HONEST.quote, place, mask))
    _never_accepted(forged, unless_same=place >= 1052)


@settings(max_examples=300, deadline=None)
@given(data=st.data())
def test_no_changed_character_of_the_collateral_is_accepted(data: st.DataObject) -> None:
    name = data.draw(st.sampled_from(sorted(Collateral.model_fields)))
    text = getattr(HONEST.collateral, name)
    place = data.draw(st.integers(0, len(text) - 1))
    character = data.draw(st.characters(codec="utf-8").filter(lambda c: c != text[place]))
    forged = with_collateral(HONEST, **{name: text[:place] + character + text[place + 1 :]})
    _never_accepted(forged, unless_same=True)


@settings(max_examples=200, deadline=None)
@given(raw=st.binary(max_size=3000))
def test_arbitrary_bytes_are_no_quote(raw: bytes) -> None:
    _never_accepted(with_quote(HONEST, raw))


@settings(max_examples=200, deadline=None)
@given(
    start=st.integers(0, len(HONEST.quote)),
    end=st.integers(0, len(HONEST.quote)),
    insert=st.binary(max_size=40),
)
def test_no_splice_of_the_quote_is_accepted(start: int, end: int, insert: bytes) -> None:
    quote = HONEST.quote
    start, end = min(start, end), max(start, end)
    forged = quote[:start] + insert + quote[end:]
    if forged != quote:
        _never_accepted(with_quote(HONEST, forged), unless_same=start >= 1052)


@settings(max_examples=100, deadline=None)
@given(seconds=st.integers(-(10**10), 10**10))
def test_evidence_holds_within_its_dates_and_at_no_other_time(seconds: int) -> None:
    at = NOW + timedelta(seconds=seconds)
    in_date = OURS.made <= at <= OURS.made + timedelta(days=30)
    if in_date:
        verify(HONEST, OURS.policy(), EXPECTED, at)
    else:
        with pytest.raises(EvidenceRefused):
            verify(HONEST, OURS.policy(), EXPECTED, at)


def _never_accepted(forged: Evidence, *, unless_same: bool = False) -> None:
    """`EvidenceRefused` and nothing else comes out; or the evidence means the very same."""
    try:
        verify(forged, OURS.policy(), EXPECTED, NOW)
    except EvidenceRefused:
        return
    assert unless_same
    assert _meaning(forged) == _meaning(HONEST)


def _meaning(evidence: Evidence) -> object:
    """The evidence without what has none: line ends and words between PEM blocks, case of hexadecimal."""
    collateral = evidence.collateral
    chains = [
        evidence.quote[1052:].rstrip(b"\0"),
        (collateral.pck_certificate_chain or "").encode(),
        collateral.pck_crl_issuer_chain.encode(),
        collateral.tcb_info_issuer_chain.encode(),
        collateral.qe_identity_issuer_chain.encode(),
    ]
    binary = [
        collateral.root_ca_crl,
        collateral.pck_crl,
        collateral.tcb_info_signature,
        collateral.qe_identity_signature,
    ]
    return (
        evidence.quote[:1052],
        [x509.load_pem_x509_certificates(chain) for chain in chains],
        [bytes.fromhex(text) for text in binary],
        collateral.tcb_info,
        collateral.qe_identity,
        evidence.claims,
    )
