"""The forgery suite's mutants: each is one forgery of valid evidence and the step that must refuse it.

`all_mutants(platform, stranger)` makes them; `test_forgeries.py` shows each to the verifier.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec

from chiron.api.software_tee import pki
from chiron.api.software_tee.quote import EnclaveIdentity, pack_report, raw_public_key, raw_signature
from chiron.runtime.attestation.steps import Step
from chiron.wire.attestation import Evidence, Role
from tests.support.certificates import certificate_for
from tests.support.forge import (
    IDENTITY,
    JOB,
    NOW,
    Platform,
    binding,
    certificate,
    claims,
    flipped,
    platform_levels,
    qe_levels,
    qe_report,
    resigned_report,
    with_collateral,
    with_pck_chain,
    with_qe_report,
    with_quote,
)


@dataclass(frozen=True)
class Mutant:
    """One forgery."""

    name: str
    step: Step
    evidence: Evidence
    policy: dict[str, Any] = field(default_factory=dict)
    later: timedelta = timedelta()
    """How long after `NOW` it is shown."""


def all_mutants(ours: Platform, stranger: Platform) -> Iterator[Mutant]:
    """Every mutant, made from `ours`; `stranger` is another platform under another root."""
    honest = ours.evidence()
    yield from _forms(honest)
    yield from _kinds(honest)
    yield from _chains(ours, stranger, honest)
    yield from _revocation(ours, stranger, honest)
    yield from _tcb_infos(ours, stranger, honest)
    yield from _identities(ours, stranger, honest)
    yield from _quoting_enclaves(ours, honest)
    yield from _signatures(ours, stranger, honest)
    yield from _levels(ours, honest)
    yield from _enclaves(ours, honest)
    yield from _claims(ours, honest)


def _forms(honest: Evidence) -> Iterator[Mutant]:
    quote = honest.quote
    for length in (1, 47, 48, 431, 435, 436, 500, 1013, 1045, 1051):
        yield Mutant(f"cut to {length} bytes", Step.PARSE, with_quote(honest, quote[:length]))
    # Names are the same in every process, though lengths are not: signatures in DER vary.
    yield Mutant("last byte cut off", Step.PARSE, with_quote(honest, quote[:-1]))
    yield Mutant("one byte more", Step.PARSE, with_quote(honest, quote + b"\0"))
    yield Mutant("twice", Step.PARSE, with_quote(honest, quote * 2))
    for name, place in (("signature data", 432), ("QE auth data", 1012), ("certification data", 1048)):
        for mask in (0x01, 0x80):
            forged = with_quote(honest, flipped(quote, place, mask))
            yield Mutant(f"length of {name} ^ {mask:#x}", Step.PARSE, forged)
    for kind in (0, 1, 2, 3, 4, 6, 7, 255):
        forged = with_quote(honest, quote[:1046] + bytes([kind]) + quote[1047:])
        yield Mutant(f"certification data of type {kind}", Step.PARSE, forged)
    yield Mutant("version 2", Step.PARSE, with_quote(honest, b"\x02" + quote[1:]))
    yield Mutant("version 259", Step.PARSE, with_quote(honest, b"\x03\x01" + quote[2:]))


def _kinds(honest: Evidence) -> Iterator[Mutant]:
    quote = honest.quote
    yield Mutant("version 4", Step.TEE_TYPE, with_quote(honest, b"\x04" + quote[1:]))
    yield Mutant("version 5", Step.TEE_TYPE, with_quote(honest, b"\x05" + quote[1:]))
    yield Mutant("TDX", Step.TEE_TYPE, with_quote(honest, quote[:4] + b"\x81" + quote[5:]))
    yield Mutant("EPID key type", Step.TEE_TYPE, with_quote(honest, quote[:2] + b"\0" + quote[3:]))
    yield Mutant("P-384 key type", Step.TEE_TYPE, with_quote(honest, quote[:2] + b"\x03" + quote[3:]))
    yield Mutant("another vendor", Step.TEE_TYPE, with_quote(honest, flipped(quote, 12)))


def _chains(ours: Platform, stranger: Platform, honest: Evidence) -> Iterator[Mutant]:
    step = Step.CERTIFICATE_CHAIN
    yield Mutant("another platform's evidence", step, stranger.evidence())
    yield Mutant("no software root in the policy", step, honest, {"software_root": None})
    yield Mutant("the stranger's root in the policy", step, honest, {"software_root": stranger.root.der})
    rest = [ours.platform_ca.pem, ours.root.pem]
    chains: dict[str, list[bytes]] = {
        "PCK chain empty": [b"\n"],
        "PCK chain without root": [ours.pck.pem, ours.platform_ca.pem],
        "PCK chain without platform CA": [ours.pck.pem, ours.root.pem],
        "PCK chain without leaf": rest,
        "PCK chain in another order": [ours.pck.pem, *reversed(rest)],
        "PCK chain with a fourth certificate": [ours.pck.pem, *rest, ours.root.pem],
        "PCK chain of certificates that are none": [
            b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"
        ],
        "PCK of the stranger": [stranger.pck.pem, *rest],
        "platform CA of the stranger": [ours.pck.pem, stranger.platform_ca.pem, ours.root.pem],
        "root of the stranger": [ours.pck.pem, ours.platform_ca.pem, stranger.root.pem],
        "PCK issued by the root": [certificate(ours.root, ours.pck).pem, *rest],
        "PCK issued by the TCB signer": [
            certificate(ours.tcb_signing, ours.pck).pem,
            ours.tcb_signing.pem,
            ours.root.pem,
        ],
        "PCK expired": [
            certificate(ours.platform_ca, ours.pck, valid=(timedelta(days=-9), timedelta(days=-1))).pem,
            *rest,
        ],
        "PCK not yet valid": [
            certificate(ours.platform_ca, ours.pck, valid=(timedelta(days=1), timedelta(days=9))).pem,
            *rest,
        ],
        "PCK signed with SHA-384": [
            certificate(ours.platform_ca, ours.pck, hashed=hashes.SHA384()).pem,
            *rest,
        ],
        "platform CA expired": [
            ours.pck.pem,
            certificate(ours.root, ours.platform_ca, valid=(timedelta(days=-9), timedelta(days=-1))).pem,
            ours.root.pem,
        ],
        "platform CA that is no CA": [
            ours.pck.pem,
            certificate(ours.root, ours.platform_ca, authority=False).pem,
            ours.root.pem,
        ],
        "platform CA without key usage": [
            ours.pck.pem,
            certificate(ours.root, ours.platform_ca, drop=x509.KeyUsage).pem,
            ours.root.pem,
        ],
        "root signed by another key of its name": [
            ours.pck.pem,
            ours.platform_ca.pem,
            certificate(stranger.root, ours.root).pem,
        ],
    }
    for name, chain in chains.items():
        yield Mutant(name, step, with_pck_chain(ours, honest, chain))
    pck = ours.pck.der
    places = {"10": 10, "60": 60, "in the middle": len(pck) // 2, "5th from the end": len(pck) - 5}
    for name, place in places.items():
        leaf = _pem(flipped(pck, place))
        yield Mutant(f"PCK byte {name} flipped", step, with_pck_chain(ours, honest, [leaf, *rest]))
    other = stranger.pck_chain.decode()
    yield Mutant("collateral's PCK chain differs", step, with_collateral(honest, pck_certificate_chain=other))
    for name in ("tcb_info_issuer_chain", "qe_identity_issuer_chain", "pck_crl_issuer_chain"):
        theirs = getattr(stranger.collateral, name)
        yield Mutant(f"{name} of the stranger", step, with_collateral(honest, **{name: theirs}))
        yield Mutant(f"{name} empty", step, with_collateral(honest, **{name: ""}))
        yield Mutant(
            f"{name} without root", step, with_collateral(honest, **{name: ours.tcb_signing.pem.decode()})
        )
    old = certificate(ours.root, ours.tcb_signing, valid=(timedelta(days=-9), timedelta(days=-1)))
    expired = (old.pem + ours.root.pem).decode()
    yield Mutant("TCB signing expired", step, with_collateral(honest, tcb_info_issuer_chain=expired))
    yield Mutant("everything expired", step, honest, later=pki.VALIDITY)


def _revocation(ours: Platform, stranger: Platform, honest: Evidence) -> Iterator[Mutant]:
    step, made = Step.REVOCATION, ours.made
    serial = {
        "PCK": (ours.platform_ca, "pck_crl", ours.pck),
        "platform CA": (ours.root, "root_ca_crl", ours.platform_ca),
        "TCB signing": (ours.root, "root_ca_crl", ours.tcb_signing),
        "root": (ours.root, "root_ca_crl", ours.root),
    }
    for name, (issuer, place, revoked) in serial.items():
        crl = pki.create_crl(issuer, made, (revoked.certificate.serial_number,))
        yield Mutant(f"{name} revoked", step, with_collateral(honest, **{place: crl.hex()}))
    for place, issuer, other in (
        ("pck_crl", ours.platform_ca, stranger.platform_ca),
        ("root_ca_crl", ours.root, stranger.root),
    ):
        crl = pki.create_crl(issuer, made)
        lists = {
            "expired": pki.create_crl(issuer, NOW - pki.CRL_VALIDITY - timedelta(days=1)),
            "of the future": pki.create_crl(issuer, NOW + timedelta(days=1)),
            "of the stranger": pki.create_crl(other, made),
            "signed by another key of its name": pki.create_crl(replace(issuer, key=other.key), made),
            "with a byte flipped": flipped(crl, len(crl) // 2),
            "with its signature flipped": flipped(crl, len(crl) - 3),
            "cut off": crl[:-1],
            "with a byte more": crl + b"\0",
        }
        for name, changed in lists.items():
            yield Mutant(f"{place} {name}", step, with_collateral(honest, **{place: changed.hex()}))
        yield Mutant(f"{place} not hexadecimal", step, with_collateral(honest, **{place: "zz"}))
        yield Mutant(f"{place} empty", step, with_collateral(honest, **{place: ""}))
    swapped = {"pck_crl": honest.collateral.root_ca_crl, "root_ca_crl": honest.collateral.pck_crl}
    yield Mutant("revocation lists swapped", step, with_collateral(honest, **swapped))
    yield Mutant("a month later", step, honest, later=pki.CRL_VALIDITY)


def _tcb_infos(ours: Platform, stranger: Platform, honest: Evidence) -> Iterator[Mutant]:
    step = Step.TCB_INFO
    changed: dict[str, dict[str, Any]] = {
        "expired": {"nextUpdate": "2026-02-01T00:00:00Z"},
        "of the future": {"issueDate": "2026-04-01T00:00:00Z"},
        "of another FMSPC": {"fmspc": "00906ed50000"},
        "of another PCE": {"pceId": "0100"},
        "for TDX": {"id": "TDX"},
        "of version 2": {"version": 2},
        "without levels": {"tcbLevels": []},
        "without dates": {"nextUpdate": None},
        "with a date that is none": {"nextUpdate": "soon"},
        "with an unknown status": {"tcbLevels": platform_levels((1, "2024-03-13", "Splendid"))},
        "with 15 components": {
            "tcbLevels": [
                {
                    "tcb": {"sgxtcbcomponents": [{"svn": 1}] * 15, "pcesvn": 0},
                    "tcbDate": "2024-03-13T00:00:00Z",
                    "tcbStatus": "UpToDate",
                }
            ]
        },
    }
    for name, fields in changed.items():
        yield Mutant(f"TCB info {name}", step, with_collateral(honest, **ours.tcb_info(**fields)))
    yield from _statements("tcb_info", step, ours, stranger, honest)
    yield Mutant("TCB info older than demanded", step, honest, {"minimum_tcb_evaluation": 18})


def _identities(ours: Platform, stranger: Platform, honest: Evidence) -> Iterator[Mutant]:
    step = Step.QE_IDENTITY
    changed: dict[str, dict[str, Any]] = {
        "expired": {"nextUpdate": "2026-02-01T00:00:00Z"},
        "of the future": {"issueDate": "2026-04-01T00:00:00Z"},
        "for TDX": {"id": "TD_QE"},
        "of the verification enclave": {"id": "QVE"},
        "of version 1": {"version": 1},
        "of another signer": {"mrsigner": "00" * 32},
        "of another product": {"isvprodid": 2},
        "with other attributes": {"attributes": "07000000000000000000000000000000"},
        "with another MISCSELECT": {"miscselect": "00000001"},
        "with a short mask": {"attributesMask": "FB"},
        "without levels": {"tcbLevels": []},
    }
    for name, fields in changed.items():
        yield Mutant(f"QE identity {name}", step, with_collateral(honest, **ours.qe_identity(**fields)))
    yield from _statements("qe_identity", step, ours, stranger, honest)
    older = ours.qe_identity(tcbEvaluationDataNumber=16)
    yield Mutant("QE identity older than the TCB info", step, with_collateral(honest, **older))
    policy = {"minimum_tcb_evaluation": 17}
    yield Mutant("QE identity older than demanded", step, with_collateral(honest, **older), policy)


def _statements(
    name: str, step: Step, ours: Platform, stranger: Platform, honest: Evidence
) -> Iterator[Mutant]:
    """What goes wrong with either signed statement."""
    signature = getattr(honest.collateral, f"{name}_signature")
    raw = getattr(honest.collateral, name)
    changes = {
        "of the stranger": {name: getattr(stranger.collateral, name)},
        "signed by the stranger": stranger.signed_by(name, stranger.tcb_signing),
        "signed by the PCK key": ours.signed_by(name, ours.pck),
        "altered": {name: raw.replace('"tcbEvaluationDataNumber":17', '"tcbEvaluationDataNumber":18')},
        "with a space more": {name: raw + " "},
        "with its signature flipped": {f"{name}_signature": flipped(bytes.fromhex(signature), 40).hex()},
        "with its signature cut": {f"{name}_signature": signature[:-2]},
        "with its signature longer": {f"{name}_signature": signature + "00"},
        "with a signature of zeros": {f"{name}_signature": "00" * 64},
        "without signature": {f"{name}_signature": ""},
        "empty": {name: ""},
        "that is not JSON": {name: "["},
    }
    for what, fields in changes.items():
        yield Mutant(f"{name} {what}", step, with_collateral(honest, **fields))


def _quoting_enclaves(ours: Platform, honest: Evidence) -> Iterator[Mutant]:
    """QE reports that the platform itself signed, but not of a genuine quoting enclave; then altered ones."""
    fields = {
        "of another signer": (128, 0x01),
        "of another product": (256, 0x02),
        "in debug mode": (48, 0x02),
        "with another MISCSELECT": (16, 0x01),
        "not initialised": (48, 0x01),
    }
    for name, (place, mask) in fields.items():
        report = flipped(qe_report(ours, honest), place, mask)
        forged = with_qe_report(ours, honest, report, ours.pck)
        yield Mutant(f"quoting enclave {name}", Step.QE_IDENTITY, forged)
        unsigned = with_quote(honest, flipped(honest.quote, 564 + place, mask))
        yield Mutant(f"quoting enclave {name}, unsigned", Step.QE_IDENTITY, unsigned)


def _signatures(ours: Platform, stranger: Platform, honest: Evidence) -> Iterator[Mutant]:
    step, quote = Step.SIGNATURE, honest.quote
    fields = {
        "header's QE SVN": 8,
        "header's PCE SVN": 10,
        "header's user data": 28,
        "CPU SVN": 48,
        "MISCSELECT": 48 + 16,
        "reserved bytes": 48 + 20,
        "attributes": 48 + 48,
        "XFRM": 48 + 56,
        "measurement": 48 + 64,
        "signer": 48 + 128,
        "config id": 48 + 192,
        "product id": 48 + 256,
        "SVN": 48 + 258,
        "family id": 48 + 304,
        "report data, first byte": 48 + 320,
        "report data, last byte": 48 + 383,
        "signature r": 436,
        "signature s": 499,
        "attestation key x": 500,
        "attestation key y": 563,
        "QE report's CPU SVN": 564,
        "QE report's measurement": 564 + 64,
        "QE report's data": 564 + 320,
        "QE report's padding": 564 + 383,
        "QE signature r": 948,
        "QE signature s": 1011,
        "QE auth data": 1014,
        "QE auth data's end": 1045,
    }
    for name, place in fields.items():
        yield Mutant(f"{name} flipped", step, with_quote(honest, flipped(quote, place)))
    other = stranger.evidence().quote
    parts = {
        "report": (48, 432),
        "signature": (436, 500),
        "attestation key": (500, 564),
        "QE report": (564, 948),
        "QE signature": (948, 1012),
        "attestation key and its signature": (436, 564),
        "QE report and its signature": (564, 1012),
    }
    for name, (start, end) in parts.items():
        forged = with_quote(honest, quote[:start] + other[start:end] + quote[end:])
        if forged != honest and name != "report":  # the two platforms' reports are equal
            yield Mutant(f"{name} of the stranger", step, forged)
    body = other[:432] + quote[432:436] + other[436:1046] + quote[1046:]
    yield Mutant("all but the certificates of the stranger", step, with_quote(honest, body))
    yield from _own_keys(ours, honest)


def _own_keys(ours: Platform, honest: Evidence) -> Iterator[Mutant]:
    """Someone with a key of their own, and what they can sign with it."""
    step, quote = Step.SIGNATURE, honest.quote
    thief = ec.generate_private_key(ec.SECP256R1())
    own_signature = raw_signature(thief, quote[:432])
    own_key = raw_public_key(thief.public_key())
    signed = quote[:436] + own_signature + own_key + quote[564:]
    yield Mutant("signed with a key that the QE did not certify", step, with_quote(honest, signed))
    bound = bytearray(qe_report(ours, honest))
    bound[320:384] = binding(thief, quote[1014:1046])
    unsigned = with_quote(honest, signed[:564] + bytes(bound) + quote[948:])
    yield Mutant("own key bound by an unsigned QE report", step, unsigned)
    thieving = replace(ours.pck, key=thief)
    own_report = with_qe_report(ours, with_quote(honest, signed), bytes(bound), thieving)
    yield Mutant("own key bound by a QE report signed with it", step, own_report)
    unbound = with_qe_report(
        ours, honest, qe_report(ours, honest, lambda raw: _zero(raw, 320, 384)), ours.pck
    )
    yield Mutant("QE report that binds nothing", step, unbound)
    off_curve = with_quote(honest, quote[:500] + b"\xff" * 64 + quote[564:])
    yield Mutant("attestation key off the curve", step, off_curve)
    zeros = with_quote(honest, quote[:436] + bytes(64) + quote[500:])
    yield Mutant("signature of zeros", step, zeros)
    leaf = certificate(ours.platform_ca, replace(ours.pck, certificate=_self_named(ours, thief)))
    swapped = with_pck_chain(ours, honest, [leaf.pem, ours.platform_ca.pem, ours.root.pem])
    yield Mutant("another PCK of the same platform CA", step, swapped)


def _zero(raw: bytearray, start: int, end: int) -> None:
    raw[start:end] = bytes(end - start)


def _self_named(ours: Platform, key: ec.EllipticCurvePrivateKey) -> x509.Certificate:
    """A certificate as the platform's PCK, for another key."""
    return certificate_for(
        key.public_key(),
        signer=key,
        valid=(NOW, NOW + timedelta(days=1)),
        subject=ours.pck.certificate.subject,
        extensions=ours.pck.certificate.extensions,
    )


def _levels(ours: Platform, honest: Evidence) -> Iterator[Mutant]:
    step, day = Step.TCB_STATUS, "2025-12-01"
    for status in (
        "OutOfDate",
        "ConfigurationNeeded",
        "ConfigurationAndSWHardeningNeeded",
        "OutOfDateConfigurationNeeded",
        "Revoked",
    ):
        rows = platform_levels((2, "2026-01-01", "UpToDate"), (1, day, status))
        forged = with_collateral(honest, **ours.tcb_info(tcbLevels=rows))
        yield Mutant(f"platform {status}", step, forged)
    for status in ("OutOfDate", "Revoked"):
        rows = qe_levels((9, "2026-01-01", "UpToDate"), (1, day, status))
        forged = with_collateral(honest, **ours.qe_identity(tcbLevels=rows))
        yield Mutant(f"quoting enclave {status}", step, forged)
    newer = platform_levels((2, "2026-01-01", "UpToDate"))
    unreached = with_collateral(honest, **ours.tcb_info(tcbLevels=newer))
    yield Mutant("platform below every level", step, unreached)
    newer = qe_levels((9, "2026-01-01", "UpToDate"))
    unreached = with_collateral(honest, **ours.qe_identity(tcbLevels=newer))
    yield Mutant("quoting enclave below every level", step, unreached)
    hardening = platform_levels((1, day, "SWHardeningNeeded"))
    hardening[0]["advisoryIDs"] = ["INTEL-SA-00615", "INTEL-SA-00289"]
    advised = with_collateral(honest, **ours.tcb_info(tcbLevels=hardening))
    policy = {"accepted_advisories": ["INTEL-SA-00615"]}
    yield Mutant("an advisory that is not accepted", step, advised, policy)
    yield Mutant("hardening needed, only UpToDate accepted", step, advised, {"accepted_tcb": ["UpToDate"]})
    rows = platform_levels((2, "2026-02-01", "UpToDate"), (1, day, "OutOfDate"))
    late = with_collateral(honest, **ours.tcb_info(tcbLevels=rows))
    yield Mutant("out of date past its grace", step, late, {"grace_days": 89})


def _enclaves(ours: Platform, honest: Evidence) -> Iterator[Mutant]:
    def enclave(identity: EnclaveIdentity) -> Evidence:
        report = pack_report(identity, honest.claims.report_data())
        return resigned_report(ours, honest, report)

    debug = enclave(replace(IDENTITY, debug=True))
    yield Mutant("debug enclave", Step.ATTRIBUTES, debug)
    yield from _attributes(ours, honest)
    step = Step.MEASUREMENT
    yield Mutant("another measurement", step, enclave(replace(IDENTITY, measurement=b"\x43" * 32)))
    by_signer = {
        "measurements": [],
        "signers": [IDENTITY.signer.hex()],
        "product_id": IDENTITY.product_id,
        "minimum_svn": IDENTITY.svn,
    }
    changes: dict[str, dict[str, Any]] = {
        "signer": {"signer": b"\x18" * 32},
        "product": {"product_id": 4},
        "lower SVN": {"svn": 6},
    }
    for name, fields in changes.items():
        yield Mutant(f"another {name}", step, enclave(replace(IDENTITY, **fields)), by_signer)
    yield Mutant("a policy for other code", step, honest, {"measurements": ["ff" * 32]})


def _attributes(ours: Platform, honest: Evidence) -> Iterator[Mutant]:
    """A genuine report with another MISCSELECT (from byte 16), flags (from 48) or XFRM (from 56)."""
    changes = {
        "provision key": (48, 0x15),
        "launch key": (48, 0x25),
        "not initialised": (48, 0x04),
        "32-bit enclave": (48, 0x01),
        "reserved flag 3": (48, 0x0D),
        "reserved flag 8": (49, 0x01),
        "reserved flag 63": (55, 0x80),
        "XFRM without SSE": (56, 0x05),
        "XFRM of half of AVX-512": (56, 0x27),
        "XFRM of AVX-512 without AVX": (56, 0xE3),
        "XFRM of supervisor state": (57, 0x08),
        "reserved MISCSELECT": (16, 0x04),
    }
    for name, (place, value) in changes.items():
        report = bytearray(pack_report(IDENTITY, honest.claims.report_data()))
        report[place] = value
        yield Mutant(name, Step.ATTRIBUTES, resigned_report(ours, honest, bytes(report)))


def _claims(ours: Platform, honest: Evidence) -> Iterator[Mutant]:
    fields: dict[str, dict[str, Any]] = {
        "another HPKE key": {"hpke_public_key": b"\x01" + honest.claims.hpke_public_key[1:]},  # type: ignore[index]
        "another job CA": {"tls_ca_sha256": "d" * 64},
        "another nonce": {"nonce": b"\x06" * 32},
        "another job": {"job": "b" * 32},
        "a TLS key more": {"tls_public_key_sha256": "e" * 64},
        "another role": {"role": Role.PREDICTOR, "tls_ca_sha256": None},
    }
    for name, changes in fields.items():
        told = claims(**changes)
        yield Mutant(f"claims altered: {name}", Step.CLAIMS, honest.model_copy(update={"claims": told}))
    report = pack_report(IDENTITY, bytes(64))
    yield Mutant("report data of zeros", Step.CLAIMS, resigned_report(ours, honest, report))
    yield Mutant("replayed: another nonce", Step.NONCE, ours.evidence(claims(nonce=b"\x06" * 32)))
    yield Mutant("replayed: the boot nonce", Step.NONCE, ours.evidence(claims(nonce=bytes(32))))
    step = Step.ROLE_AND_JOB
    yield Mutant("replayed: another job", step, ours.evidence(claims(job="b" * 32)))
    predictor = claims(role=Role.PREDICTOR, tls_ca_sha256=None)
    yield Mutant("replayed: a predictor's", step, ours.evidence(predictor))
    trainer = claims(
        role=Role.TRAINER, hpke_public_key=None, tls_ca_sha256=None, tls_public_key_sha256="e" * 64
    )
    yield Mutant("replayed: a trainer's", step, ours.evidence(trainer))
    assert honest.claims.job == JOB


def _pem(der: bytes) -> bytes:
    import base64

    body = base64.encodebytes(der)
    return b"-----BEGIN CERTIFICATE-----\n" + body + b"-----END CERTIFICATE-----\n"
