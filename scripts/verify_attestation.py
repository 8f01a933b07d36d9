#!/usr/bin/env python3
"""Verify an enclave's evidence, or an owner's receipt of it, with nothing of the project but this file.

Needs Python 3.11 and two packages: pip install "cryptography>=50" "dcap-qvl>=0.7"

  verify_attestation.py RECEIPT.json [--owner HEX]                               what `chiron receipt` wrote
  verify_attestation.py EVIDENCE.json --job ID --nonce HEX --policy POLICY.toml  evidence from a file
  verify_attestation.py --url GATEWAY --job ID --policy POLICY.toml              a running job's enclave
  verify_attestation.py --tls HOST:PORT --job ID --policy POLICY.toml            an enclave's TLS endpoint
  verify_attestation.py --quote QUOTE --collateral JSON --mrenclave HEX          a bare quote, offline
  verify_attestation.py --quote QUOTE --pccs URL --mrenclave HEX                 collateral fetched

A receipt is checked as of the time when its owner verified the evidence, by the policy in it unless another
is given. Its software root is never believed: to accept a development TEE, give the root yourself with
--trust-software-root.

The numbers of the steps are those of docs/attestation.md; 0 is a receipt's signature. Steps 4 to 7
(revocation, TCB info, QE identity, signatures) are dcap-qvl's, and one here: number 7.

Exit code: 0 verified; 2 wrong usage; 3 something could not be read or fetched; 10 + N where step N refused.
With --url, the gateway's key is read from CHIRON_API_KEY.
"""

import argparse
import asyncio
import base64
import hashlib
import json
import os
import re
import secrets
import socket
import ssl
import sys
import tomllib
import urllib.request
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import dcap_qvl
from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat import asn1
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

INTEL_ROOT_SHA256 = "44a0196b2b99f889b8e149e95b807a350e7424964399e885a7cbb8ccfab674d3"
INTEL_VENDOR = bytes.fromhex("939a7233f79c4ca9940a0db3957f0607")
SGX_EXTENSION = "1.2.840.113741.1.13.1"
RA_TLS = x509.ObjectIdentifier("2.23.133.5.4.9")
MAX_BYTES = 32 * 2**20
TIMEOUT_S = 60
STEPS = {
    0: ("receipt", "the owner signed every field of the receipt"),
    1: ("parse", "the quote parses"),
    2: ("tee-type", "it is an SGX enclave's quote"),
    3: ("certificate-chain", "the certificates end in the pinned root"),
    7: ("signature", "dcap-qvl accepts certificates, revocation lists, collateral and signatures"),
    8: ("tcb-status", "the platform and its patch level are ones the policy accepts"),
    9: ("attributes", "the enclave's attributes are ones that protect it"),
    10: ("measurement", "the enclave runs code the policy accepts"),
    11: ("transparency", "that code is in the transparency log, where the policy demands it"),
    12: ("claims", "the quote binds exactly these claims"),
    13: ("nonce", "the evidence is fresh: it carries our nonce"),
    14: ("role-and-job", "it is the role and job we asked for"),
    15: ("key-binding", "it binds the keys of its role"),
}
KEYS = {"hpke_public_key", "tls_ca_sha256", "tls_public_key_sha256"}
ROLES = {
    "parameter-server": {"hpke_public_key", "tls_ca_sha256"},
    "shard": {"hpke_public_key", "tls_public_key_sha256"},
    "trainer": {"tls_public_key_sha256"},
    "predictor": {"hpke_public_key"},
}
"""The keys that a role's claims bind; parameter servers and predictors may bind a TLS key besides."""
OUT_OF_DATE = {"OutOfDate": "UpToDate", "OutOfDateConfigurationNeeded": "ConfigurationNeeded"}
STATUSES = {
    "UpToDate",
    "SWHardeningNeeded",
    "ConfigurationAndSWHardeningNeeded",
    *OUT_OF_DATE,
    *OUT_OF_DATE.values(),
}


COLLATERAL = [
    "pck_crl_issuer_chain", "root_ca_crl", "pck_crl", "tcb_info_issuer_chain", "tcb_info",
    "tcb_info_signature", "qe_identity_issuer_chain", "qe_identity", "qe_identity_signature",
    "pck_certificate_chain",
]  # fmt: skip
QUOTE_VERSIONS = (b"\3", b"\4", b"\5")
OPEN_ENCLAVE = (1).to_bytes(4, "little") + (2).to_bytes(4, "little")
"""How `oe_report_header_t` begins (openenclave/bits/report.h): version 1, a remote report of SGX. Its size
(8 bytes) and the quote follow."""


class Unreadable(Exception):
    """An input could not be read or fetched."""


class Refused(Exception):
    """A step does not hold."""


@dataclass
class Steps:
    """What was checked so far: number and what was compared."""

    taken: list[tuple[int, bool, str]] = field(default_factory=list)

    def check(self, number: int, holds: bool, detail: str) -> None:
        """One step; raises `Refused` where it does not hold."""
        self.taken.append((number, holds, detail))
        if not holds:
            raise Refused(detail)


def main(arguments: list[str] | None = None) -> int:
    """Run one verification; the module's docstring lists the exit codes."""
    parser = _parser()
    options = parser.parse_args(arguments)
    steps = Steps()
    try:
        _verify(parser, options, steps)
    except Refused:
        return _show(steps, options.json, 10 + steps.taken[-1][0])
    except (Unreadable, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 3
    except KeyError as error:
        print(f"error: the evidence or receipt lacks the field {printable(str(error))}", file=sys.stderr)
        return 3
    except (ValueError, TypeError, AttributeError, RecursionError) as error:
        print(f"error: the evidence or receipt cannot be read: {type(error).__name__}", file=sys.stderr)
        return 3
    return _show(steps, options.json, 0)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    add = parser.add_argument
    add("file", nargs="?", type=Path, help="a receipt, or evidence as the API returns it; JSON")
    add("--quote", type=Path, help="a DCAP quote: binary, hex, base64, with Open Enclave's header or without")
    add("--url", help="a gateway; a fresh nonce is sent")
    add("--tls", metavar="HOST:PORT", help="an enclave that carries evidence in its certificate")
    add("--collateral", type=Path, help="JSON, field for field dcap-qvl's QuoteCollateralV3")
    add("--pccs", metavar="URL", help="fetch the collateral from this PCCS or Intel's PCS")
    add("--job", help="the job the enclave must be of")
    add("--role", choices=list(ROLES), default="parameter-server")
    add("--nonce", type=_hex(32), help="hex; what the evidence must be fresh for")
    add(
        "--owner", type=_hex(32), help="hex; the owner's signing key: of a receipt, or of a predictor's model"
    )
    add("--at", type=_moment, help="verify as of this date or time (ISO 8601; UTC where it names no zone)")
    add("--policy", type=Path, help="attestation policy, TOML or JSON; the options below override it")
    for name, means in (("--mrenclave", "accepted measurement"), ("--mrsigner", "accepted signer")):
        add(name, action="append", default=[], type=_digest, metavar="HEX", help=means)
    add("--product-id", type=int, help="with --mrsigner")
    add("--min-svn", type=int, help="with --mrsigner")
    statuses = sorted(STATUSES)
    add(
        "--accept-tcb",
        action="append",
        default=[],
        choices=statuses,
        metavar="STATUS",
        help=", ".join(statuses),
    )
    add("--accept-advisory", action="append", metavar="INTEL-SA-NNNNN", help="and no others")
    add("--grace-days", type=int, help="forgive an out-of-date TCB level for so long")
    add("--trust-software-root", type=Path, metavar="FILE", help="a development TEE: NO protection")
    add("--json", action="store_true", help="one JSON object on stdout")
    return parser


def _hex(length: int) -> Any:
    def read(text: str) -> bytes:
        if len(value := bytes.fromhex(re.sub("^0[xX]", "", text))) != length:
            raise argparse.ArgumentTypeError(f"{len(value)} bytes in hexadecimal, not {length}")
        return value

    return read


def _digest(text: str) -> str:
    return str(_hex(32)(text).hex())


def _moment(text: str) -> datetime:
    moment = datetime.fromisoformat(text)
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


# What is verified, and where it comes from


def _verify(parser: argparse.ArgumentParser, options: argparse.Namespace, steps: Steps) -> None:
    if sum(bool(way) for way in (options.file, options.quote, options.url, options.tls)) != 1:
        parser.error("give one of: a file, --quote, --url, --tls")
    read = _json(options.file) if options.file else {}
    receipt = _receipt(read, options, steps) if "receipt" in read else None
    policy = _policy(parser, options, receipt)
    verified_at = datetime.fromtimestamp(receipt["verified"]["at"], UTC) if receipt else datetime.now(UTC)
    at = options.at or verified_at
    if options.quote:
        quote = read_quote(options.quote)
        check_quote(steps, quote, _collateral(parser, options, quote), policy, at)
        return
    if receipt:
        evidence, nonce, key = receipt["verified"]["evidence"], options.nonce, None
        options.role, options.job = "parameter-server", receipt["spec"]["job"]
        nonce = nonce or base64.b64decode(evidence["claims"]["nonce"], validate=True)
    else:
        evidence, nonce, key = _evidence(parser, options, policy, read)
    _fields("evidence", evidence, {"quote": str, "collateral": dict, "claims": dict})
    quote = base64.b64decode(evidence["quote"], validate=True)
    report_data = check_quote(steps, quote, evidence["collateral"], policy, at)
    _check_claims(
        steps, evidence["claims"], report_data, (options.role, options.job, nonce, key, options.owner)
    )


def _evidence(
    parser: argparse.ArgumentParser, options: argparse.Namespace, policy: dict[str, Any], read: Any
) -> tuple[Any, bytes, str | None]:
    """Evidence, the nonce that it must be fresh for, and the digest of the TLS key that its holder proved."""
    if not options.job:
        parser.error("--job says which job's enclave it must be")
    if options.tls:
        evidence, key = _endpoint(options.tls)
        # The certificate's key is fresh: it was made in the enclave and dies with it.
        return evidence, bytes(32), key
    if options.file:
        if options.nonce is None:
            parser.error("bare evidence needs --nonce: without it, old evidence would pass for fresh")
        return read, options.nonce, None
    nonce = options.nonce or secrets.token_bytes(32)
    if policy["transparency"]:
        offered = [image["proof"] for image in _ask(options.url, "/v1/images", None) if image["proof"]]
        policy["transparency"]["proofs"] += offered
    asked = {"role": options.role, "nonce": _b64(nonce)}
    return _ask(options.url, f"/v1/jobs/{options.job}/evidence", asked), nonce, None


def _receipt(signed: dict[str, Any], options: argparse.Namespace, steps: Steps) -> dict[str, Any]:
    """Check who signed a receipt, and tell what she says that she granted."""
    _fields("file", signed, {"receipt": dict, "signature": str})
    receipt: dict[str, Any] = signed["receipt"]
    if receipt["version"] != 1:
        raise Unreadable("receipt.version is not 1: this script does not know what it says")
    key = base64.b64decode(receipt["owner"], validate=True)
    signature = base64.b64decode(signed["signature"], validate=True)
    if not _signed(key, signature, b"chiron/v1/receipt", receipt):
        steps.check(0, False, "the owner's signature does not hold: something was altered")
    named = f"owner {key.hex()}, job {receipt['spec']['job']}"
    asked = options.owner in (None, key) and options.job in (None, receipt["spec"]["job"])
    steps.check(0, asked, named if options.owner else f"{named}; the owner was not compared (--owner HEX)")
    options.owner = key
    for line in receipt["words"]:
        print(f"granted: {printable(line)}", file=sys.stderr)
    return receipt


def _collateral(parser: argparse.ArgumentParser, options: argparse.Namespace, quote: bytes) -> Any:
    if options.collateral:
        return _json(options.collateral)
    if not options.pccs:
        parser.error("--quote needs --collateral FILE or --pccs URL")

    async def fetch() -> str:
        async with asyncio.timeout(TIMEOUT_S):
            return str((await dcap_qvl.get_collateral(options.pccs, quote)).to_json())

    try:
        return json.loads(asyncio.run(fetch()))
    except ValueError as error:
        raise Unreadable(f"no collateral from {options.pccs}: {error}") from error


def _ask(url: str, path: str, body: dict[str, str] | None) -> Any:
    if not url.startswith(("http://", "https://")):
        raise Unreadable("--url is an http or https address")
    request = urllib.request.Request(  # noqa: S310 - http or https, checked above
        f"{url.rstrip('/')}{path}",
        data=json.dumps(body).encode() if body else None,
        headers={
            "Content-Type": "application/json",
            "Authorization": f"Bearer {os.getenv('CHIRON_API_KEY', '')}",
        },
    )
    try:
        with urllib.request.urlopen(request, timeout=TIMEOUT_S) as response:  # noqa: S310 - as above
            return json.loads(response.read(MAX_BYTES))
    except (OSError, ValueError) as error:
        raise Unreadable(f"no answer from {url}: {error}") from error


def _endpoint(endpoint: str) -> tuple[Any, str]:
    """The evidence in an endpoint's certificate, and the digest of the key that it proved to hold."""
    host, _, port = endpoint.rpartition(":")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    # Names and issuers prove nothing here: the evidence in the certificate is what is verified.
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    try:
        with (
            socket.create_connection((host.strip("[]"), int(port)), timeout=TIMEOUT_S) as plain,
            context.wrap_socket(plain) as connection,
        ):
            certificate = x509.load_der_x509_certificate(connection.getpeercert(binary_form=True) or b"")
        public = certificate.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
        carried = certificate.extensions.get_extension_for_oid(RA_TLS).value.public_bytes()
        media_type, value, indicator = json.loads(asn1.decode_der(str, carried))
        evidence = json.loads(base64.urlsafe_b64decode(value + "=" * (-len(value) % 4)))
    except (OSError, ValueError, TypeError, x509.ExtensionNotFound, UnsupportedAlgorithm) as error:
        raise Unreadable(f"no evidence from {endpoint}: {error}") from error
    if (media_type, indicator) != ("application/vnd.chiron.evidence+json", 4):
        raise Unreadable(f"no evidence from {endpoint}: another kind of message")
    return evidence, _sha256(public)


def _read(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(MAX_BYTES)


def _json(path: Path) -> dict[str, Any]:
    """An object in a file."""
    raw = _read(path)
    try:
        value = json.loads(raw)
    except (ValueError, RecursionError) as error:
        advice = "; a quote is given by --quote" if raw[:1] in QUOTE_VERSIONS else ""
        raise Unreadable(f"{path} is not JSON{advice}") from error
    if not isinstance(value, dict):
        raise Unreadable(f"{path} holds no JSON object")
    return value


def read_quote(path: Path) -> bytes:
    """A quote from a file, in any form that tools write; which one it was is told where it is not plain."""
    quote, form = _read(path), "binary"
    text = quote.decode("ascii", "replace")
    if quote and all(letter.isprintable() or letter.isspace() for letter in text) and "\ufffd" not in text:
        letters = "".join(text.split())
        digits = re.fullmatch("(?:0[xX])?((?:[0-9a-fA-F]{2})+)", letters)
        form = "hexadecimal" if digits else "base64"
        try:
            standard = letters.translate(str.maketrans("-_", "+/")).rstrip("=")
            padded = standard + "=" * (-len(standard) % 4)
            quote = bytes.fromhex(digits[1]) if digits else base64.b64decode(padded, validate=True)
        except ValueError as error:
            raise Unreadable(f"{path} holds no quote: text that is neither hexadecimal nor base64") from error
    if quote.startswith(OPEN_ENCLAVE):
        size = int.from_bytes(quote[8:16], "little")
        if size != len(quote) - 16:
            raise Unreadable(f"{path}: Open Enclave's header tells {size} bytes, {len(quote) - 16} follow")
        quote, form = quote[16:], f"{form}, after Open Enclave's header"
    if form != "binary":
        print(f"quote read as {form}: {len(quote)} bytes", file=sys.stderr)
    return quote


def _fields(place: str, value: Any, wanted: dict[str, type]) -> None:
    """An object of just these fields, each of its type; what does not fit is named."""
    if not isinstance(value, dict):
        raise Unreadable(f"{place} is not a JSON object")
    for name, kind in wanted.items():
        if name not in value:
            raise Unreadable(f"{place}.{name} is missing")
        if not isinstance(value[name], kind):
            raise Unreadable(f"{place}.{name} is not {'an object' if kind is dict else 'a string'}")
    if unknown := sorted(set(value) - set(wanted)):
        raise Unreadable(f"{place}.{printable(unknown[0])} is unknown")


def printable(text: str) -> str:
    """Text from elsewhere, without what a terminal would obey."""
    return "".join(letter if letter.isprintable() else "?" for letter in text)[:300]


# The policy


def _policy(
    parser: argparse.ArgumentParser, options: argparse.Namespace, receipt: dict[str, Any] | None
) -> dict[str, Any]:
    """The policy's fields, overridden by the options. What is unknown or has another form is refused."""
    fields: dict[str, Any] = {}
    if options.policy:
        fields = _policy_file(options.policy)
    elif receipt:
        fields = receipt["verified"]["policy"] | {"software_root": None}
    accepted = fields.get("accepted_tcb", ["UpToDate", "SWHardeningNeeded"])
    given = {
        "measurements": options.mrenclave,
        "signers": options.mrsigner,
        "accepted_tcb": [*accepted, *options.accept_tcb],
        "product_id": options.product_id,
        "minimum_svn": options.min_svn,
        "accepted_advisories": options.accept_advisory,
        "grace_days": options.grace_days,
        "software_root": _root(options.trust_software_root) if options.trust_software_root else None,
    }
    policy = (
        POLICY_DEFAULTS | fields | {name: value for name, value in given.items() if value not in (None, [])}
    )
    fault = policy_fault(policy)
    if fault:
        parser.error(f"policy: {fault}")
    if policy["software_root"]:
        print("WARNING: a SOFTWARE root is trusted: a development TEE protects NOTHING", file=sys.stderr)
    return policy


POLICY_DEFAULTS: dict[str, Any] = {
    "software_root": None, "measurements": [], "signers": [], "product_id": 0, "minimum_svn": 0,
    "accepted_tcb": [], "accepted_advisories": None, "grace_days": 0, "minimum_tcb_evaluation": 0,
    "platforms": [],
    "allow_smt": True, "allow_dynamic_platform": True, "allow_cached_keys": True, "allow_debug": False,
    "transparency": None,
}  # fmt: skip


def _policy_file(path: Path) -> dict[str, Any]:
    try:
        raw = _read(path).decode()
        fields: dict[str, Any] = tomllib.loads(raw) if path.suffix == ".toml" else json.loads(raw)
        if root := fields.pop("software_root_file", None):
            fields["software_root"] = _root(path.parent / root)
        if log := fields.get("transparency"):
            if re.fullmatch("[0-9a-fA-F]{64}", log["log_public_key"]):
                log["log_public_key"] = _b64(bytes.fromhex(log["log_public_key"]))
            log.setdefault(
                "proofs", [json.loads(_read(path.parent / name)) for name in log.pop("proof_files", ())]
            )
    except (ValueError, TypeError, AttributeError, KeyError, RecursionError) as error:
        raise Unreadable(f"{path} holds no policy: {error}") from error
    return fields


def _root(path: Path) -> str:
    """A root certificate from a PEM or DER file, as base64 of its DER."""
    raw = _read(path)
    load = x509.load_pem_x509_certificate if raw.startswith(b"-----") else x509.load_der_x509_certificate
    try:
        return _b64(load(raw).public_bytes(Encoding.DER))
    except ValueError as error:
        raise Unreadable(f"{path} is not a root certificate") from error


def policy_fault(policy: dict[str, Any]) -> str | None:
    """What of a policy is unknown, missing or of another form; None where all is well."""

    def listed(name: str, pattern: str) -> bool:
        value = policy[name]
        return type(value) is list and all(type(v) is str and re.fullmatch(pattern, v) for v in value)

    def pin(value: Any) -> bool:
        lengths = {"ppid": 32, "instance_id": 32, "fmspc": 12}
        named = {name: wanted for name, wanted in value.items() if wanted is not None}
        fits = all(re.fullmatch(f"[0-9a-f]{{{lengths[name]}}}", wanted) for name, wanted in named.items())
        return bool(named) and fits

    log = policy["transparency"]
    numbers = ("product_id", "minimum_svn", "grace_days", "minimum_tcb_evaluation")
    rules = {
        f"unknown field {printable(', '.join(set(policy) - set(POLICY_DEFAULTS)))}": set(policy)
        <= set(POLICY_DEFAULTS),
        "measurements": listed("measurements", "[0-9a-f]{64}"),
        "signers": listed("signers", "[0-9a-f]{64}"),
        "it names no measurement and no signer": bool(policy["measurements"] or policy["signers"]),
        "accepted_tcb": listed("accepted_tcb", "|".join(STATUSES)),
        "accepted_advisories": policy["accepted_advisories"] is None
        or listed("accepted_advisories", r"INTEL-SA-\d{5}"),
        "a number": all(type(policy[name]) is int and policy[name] >= 0 for name in numbers),
        "grace_days": policy["grace_days"] <= 730,
        "platforms": all(pin(value) for value in policy["platforms"]),
        "allow_…": all(type(policy[name]) is bool for name in POLICY_DEFAULTS if name.startswith("allow_")),
        "allow_debug can only be false": policy["allow_debug"] is False,
        "transparency": log is None
        or (set(log) == {"log_public_key", "proofs"} and len(base64.b64decode(log["log_public_key"])) == 32),
    }
    return next((name for name, holds in rules.items() if not holds), None)


# The quote: steps 1 to 11


def check_quote(steps: Steps, quote: bytes, collateral: Any, policy: dict[str, Any], at: datetime) -> str:
    """Check a quote; its report data, in hexadecimal."""
    size = int.from_bytes(quote[432:436], "little") + 436
    version, kind, tee = (int.from_bytes(quote[a:b], "little") for a, b in ((0, 2), (2, 4), (4, 8)))
    steps.check(1, len(quote) > 1012 and version in (3, 4, 5), f"version {version}, {len(quote)} bytes")
    sgx = (version, kind, tee) == (3, 2, 0) and quote[12:28] == INTEL_VENDOR and size == len(quote)
    steps.check(2, sgx, f"version {version}, TEE type {tee:#x}, key type {kind}")
    collateral = {name: value for name, value in collateral.items() if value is not None}
    _fields("collateral", {"pck_certificate_chain": "", **collateral}, dict.fromkeys(COLLATERAL, str))
    parsed = dcap_qvl.QuoteCollateralV3.from_json(json.dumps(collateral))
    steps.check(3, *_check_root(quote, collateral, policy))
    root = policy["software_root"]
    try:
        seconds = int(at.timestamp())
        if root:
            result = dcap_qvl.verify_with_root_ca(quote, parsed, base64.b64decode(root), seconds)
        else:
            result = dcap_qvl.verify(quote, parsed, seconds)
    except ValueError as error:
        steps.check(7, False, " ".join(str(error).split())[:300])
    told = json.loads(result.to_json())
    steps.check(
        7,
        True,
        f"as of {at.astimezone(UTC):%Y-%m-%d %H:%M} UTC, under {'a SOFTWARE' if root else 'Intel’s'} root",
    )
    steps.check(8, *_check_platform(quote, collateral, told, policy, at))
    report = told["report"]["SgxEnclave"]
    steps.check(9, *check_attributes(report))
    steps.check(10, *_check_code(report, policy))
    steps.check(11, *check_log(report, policy))
    return str(report["report_data"])


def _check_root(quote: bytes, collateral: dict[str, str], policy: dict[str, Any]) -> tuple[bool, str]:
    """The last certificate of every chain is the root; dcap-qvl then verifies the chains."""
    root = policy["software_root"]
    pinned = _sha256(base64.b64decode(root)) if root else INTEL_ROOT_SHA256
    in_quote = bytes(dcap_qvl.parse_quote(quote).cert_chain_pem_bytes() or b"").rstrip(b"\0")
    chains = [x509.load_pem_x509_certificates(in_quote)]
    chains += [
        x509.load_pem_x509_certificates(collateral[name].encode())
        for name in ("tcb_info_issuer_chain", "qe_identity_issuer_chain", "pck_certificate_chain")
        if name in collateral
    ]
    if "pck_certificate_chain" in collateral and chains[-1] != chains[0]:
        return False, "quote and collateral name different PCK certificates"
    if all(_sha256(chain[-1].public_bytes(Encoding.DER)) == pinned for chain in chains):
        return True, "a SOFTWARE root, given explicitly" if root else "Intel's root"
    if any("SOFTWARE TEE" in cert.subject.rfc4514_string() for chain in chains for cert in chain):
        return (
            False,
            "a development TEE's evidence, which protects nothing (--trust-software-root FILE accepts it)",
        )
    return False, "another root"


def _check_platform(
    quote: bytes, collateral: dict[str, str], told: dict[str, Any], policy: dict[str, Any], at: datetime
) -> tuple[bool, str]:
    """TCB levels with their dates, advisories, evaluation numbers, and the machine itself."""
    pck = dcap_qvl.parse_quote(quote).pck_extension()
    info, identity = json.loads(collateral["tcb_info"]), json.loads(collateral["qe_identity"])
    have = [pck.get_value(f"{SGX_EXTENSION}.2.{place}")[-1] for place in range(1, 17)]

    def rank(level: Any) -> tuple[list[int], int]:
        return [part["svn"] for part in level["tcb"]["sgxtcbcomponents"]], level["tcb"]["pcesvn"]

    reached = [
        level
        for level in sorted(info["tcbLevels"], key=rank, reverse=True)
        if pck.pce_svn >= rank(level)[1] and all(a >= b for a, b in zip(have, rank(level)[0], strict=True))
    ]
    qe_svn = int.from_bytes(quote[822:824], "little")
    reached_qe = [level for level in identity["tcbLevels"] if qe_svn >= level["tcb"]["isvsvn"]]
    levels = (reached[0], told["platform_status"]), (reached_qe[0], told["qe_status"])
    if any(level["tcbStatus"] != theirs["status"] for level, theirs in levels):
        return False, "dcap-qvl finds another TCB level"
    evaluations = info["tcbEvaluationDataNumber"], identity["tcbEvaluationDataNumber"]
    if min(evaluations) < policy["minimum_tcb_evaluation"] or evaluations[1] < evaluations[0]:
        return False, f"TCB evaluation numbers {evaluations}: too old"
    status = converge(*(forgiven(level, policy["grace_days"], at) for level, _ in levels))
    advisories = sorted(
        {*told["advisory_ids"], *(name for level, _ in levels for name in level.get("advisoryIDs", ()))}
    )
    detail = f"{told['status']}; advisories {', '.join(advisories) or 'none'}"
    if status not in policy["accepted_tcb"]:
        return False, f"{detail}; accepted {', '.join(policy['accepted_tcb'])}"
    if policy["accepted_advisories"] is not None and not {*advisories} <= {*policy["accepted_advisories"]}:
        return False, f"{detail}; not all are accepted"
    fault = _machine_fault(pck, policy)
    return (
        fault is None,
        f"{detail}; {fault or f'PPID {bytes(pck.ppid).hex()}, FMSPC {bytes(pck.fmspc).hex()}'}",
    )


def forgiven(level: dict[str, Any], grace_days: int, at: datetime) -> str:
    """The level's status, or what is left of it within the grace that begins at the level's date."""
    status: str = level["tcbStatus"]
    until = datetime.fromisoformat(level["tcbDate"]) + timedelta(days=grace_days)
    return OUT_OF_DATE.get(status, status) if at <= until else status


def converge(platform: str, quoting_enclave: str) -> str:
    """The worse of the two, as Intel's library has it (`convergeTcbStatus`)."""
    if "Revoked" in (platform, quoting_enclave):
        return "Revoked"
    if quoting_enclave not in OUT_OF_DATE:
        return platform
    return "OutOfDateConfigurationNeeded" if "Configuration" in platform else "OutOfDate"


def _machine_fault(pck: Any, policy: dict[str, Any]) -> str | None:
    instance = pck.platform_instance_id
    facts = {"ppid": bytes(pck.ppid).hex(), "fmspc": bytes(pck.fmspc).hex()}
    facts["instance_id"] = bytes(instance).hex() if instance else ""
    pins = [{name: value for name, value in pin.items() if value is not None} for pin in policy["platforms"]]
    if pins and not any(pin.items() <= facts.items() for pin in pins):
        return "the policy names other platforms"
    for name, number in (("allow_dynamic_platform", 1), ("allow_cached_keys", 2), ("allow_smt", 3)):
        value = pck.get_value(f"{SGX_EXTENSION}.7.{number}")
        if not policy[name] and (value is None or any(value)):
            return f"{name} is false, and the PCK certificate does not say that it is off"
    return None


def check_attributes(report: dict[str, Any]) -> tuple[bool, str]:
    """INIT and MODE64BIT, besides at most CET, KSS and AEX-notify: no DEBUG, foreign key or reserved bit."""
    raw = bytes.fromhex(report["attributes"])
    flags, state = int.from_bytes(raw[:8], "little"), int.from_bytes(raw[8:], "little")
    whole = all(state & part in (0, part) for part in (0x18, 0xE0, 0x60000))  # MPX, AVX-512, AMX
    possible = whole and state & 3 == 3 and not state & ~0xE02FF and (not state & 0xE0 or state & 4)
    holds = flags & 5 == 5 and not flags & ~0x4C5 and possible and not report["misc_select"] & ~3
    return bool(holds), f"flags {flags:#x}, XFRM {state:#x}, MISCSELECT {report['misc_select']:#x}"


def _check_code(report: dict[str, Any], policy: dict[str, Any]) -> tuple[bool, str]:
    measurement, signer = report["mr_enclave"], report["mr_signer"]
    product, svn = report["isv_prod_id"], report["isv_svn"]
    shown = f"MRENCLAVE {measurement}, MRSIGNER {signer}, product {product}, SVN {svn}"
    root = policy["software_root"]
    if not policy["signers"] and (not root or _sha256(base64.b64decode(root)) == INTEL_ROOT_SHA256):
        return False, f"the policy names no signer, which MRENCLAVE does not cover (--mrsigner HEX); {shown}"
    holds = not policy["measurements"] or measurement in policy["measurements"]
    if policy["signers"]:
        holds &= signer in policy["signers"] and svn >= policy["minimum_svn"]
    if not policy["measurements"]:
        holds &= product == policy["product_id"]
    return holds, shown


def check_log(report: dict[str, Any], policy: dict[str, Any]) -> tuple[bool, str]:
    """Step 11: the log's own proof names this code (and signer)."""
    if policy["transparency"] is None:
        return True, "not demanded"
    key = base64.b64decode(policy["transparency"]["log_public_key"])
    for proof in policy["transparency"]["proofs"]:
        entry, signed = proof["entry"], proof["head"]
        if entry["measurement"] != report["mr_enclave"] or entry.get("signer") not in (
            None,
            report["mr_signer"],
        ):
            continue
        head, leaf = signed["head"], hashlib.sha256(b"\0" + canonical(entry)).digest()
        path = [bytes.fromhex(step) for step in proof["path"]]
        root = _root_from(leaf, proof["index"], head["tree_size"], path)
        signature = base64.b64decode(signed["signature"], validate=True)
        if root.hex() == head["root_sha256"] and _signed(key, signature, b"chiron/v1/log-head", head):
            return (
                True,
                f"entry {proof['index']} of {head['tree_size']}, source {entry['source_revision'][:12]}",
            )
        return False, "the inclusion proof does not hold, or another log signed its head"
    return False, "no inclusion proof for this measurement and its signer"


def _root_from(leaf: bytes, index: int, size: int, path: list[bytes]) -> bytes:
    """The root that an inclusion proof leads to (RFC 9162, section 2.1.3.2); empty where it leads nowhere."""
    if not 0 <= index < size:
        return b""
    place, last, current = index, size - 1, leaf
    for step in path:
        if last == 0:
            return b""
        if place & 1 or place == last:
            current = hashlib.sha256(b"\1" + step + current).digest()
            while not place & 1 and place:
                place, last = place >> 1, last >> 1
        else:
            current = hashlib.sha256(b"\1" + current + step).digest()
        place, last = place >> 1, last >> 1
    return current if last == 0 else b""


# The claims: steps 12 to 15


def _check_claims(
    steps: Steps,
    claims: dict[str, Any],
    report_data: str,
    expected: tuple[str, str, bytes, str | None, bytes | None],
) -> None:
    role, job, nonce, tls_key, owner = expected
    claims = dict.fromkeys([*KEYS, "owner_key_sha256"]) | {"version": 1} | claims
    digest = hashlib.sha512(canonical(claims)).hexdigest()
    steps.check(
        12, digest == report_data and claims["version"] == 1, f"SHA-512 of the claims: {digest[:32]}…"
    )
    steps.check(
        13, base64.b64decode(claims["nonce"]) == nonce and len(nonce) == 32, f"nonce {nonce.hex()[:32]}…"
    )
    named = f"{claims['role']} of job {claims['job']}"
    steps.check(14, (claims["role"], claims["job"]) == (role, job), f"{named}, asked for {role} of {job}")
    bound = {name for name in KEYS if claims[name] is not None}
    spare = {"tls_public_key_sha256"} if role in ("parameter-server", "predictor") else set()
    holds = bound - spare == ROLES[role] and tls_key in (None, claims["tls_public_key_sha256"])
    detail = f"binds {', '.join(sorted(bound))}"
    if role == "predictor":
        serves = claims["owner_key_sha256"]
        compared = "as asked for" if owner else "which was not compared"
        detail += (
            f"; serves the model of owner {serves}, {compared}" if serves else "; locked: it names no owner"
        )
        holds &= owner is None or serves == _sha256(owner)
    steps.check(15, holds, detail)


def _signed(key: bytes, signature: bytes, label: bytes, content: Any) -> bool:
    """Whether the Ed25519 key signed the label, a zero byte, and the content's canonical JSON."""
    try:
        Ed25519PublicKey.from_public_bytes(key).verify(signature, label + b"\0" + canonical(content))
    except (InvalidSignature, ValueError):
        return False
    return True


def canonical(value: Any) -> bytes:
    """The one way to write JSON (RFC 8785)."""
    if isinstance(value, dict):
        names = sorted(value, key=lambda name: name.encode("utf-16-be"))
        return b"{" + b",".join(canonical(name) + b":" + canonical(value[name]) for name in names) + b"}"
    if isinstance(value, list):
        return b"[" + b",".join(map(canonical, value)) + b"]"
    if isinstance(value, float):
        return _number(value).encode()
    return json.dumps(value, ensure_ascii=False).encode()


def _number(value: float) -> str:
    """As ECMAScript writes it: the shortest digits, and an exponent from 1e21 and below 1e-6."""
    if value == 0:
        return "0"
    sign, parts, exponent = Decimal(repr(value)).normalize().as_tuple()
    if not isinstance(exponent, int):
        raise ValueError("not a number")  # noqa: TRY004 - what JSON's reader raises, too
    digits, point = "".join(map(str, parts)), len(parts) + exponent
    if 0 < point <= 21:
        text = digits.ljust(point, "0")[:point] + (f".{digits[point:]}" if len(digits) > point else "")
    elif -6 < point <= 0:
        text = f"0.{'0' * -point}{digits}"
    else:
        text = f"{digits[0]}{'.' if digits[1:] else ''}{digits[1:]}e{point - 1:+d}"
    return ("-" if sign else "") + text


def _b64(raw: bytes) -> str:
    return base64.b64encode(raw).decode()


def _sha256(raw: bytes) -> str:
    return hashlib.sha256(raw).hexdigest()


def _show(steps: Steps, as_json: bool, code: int) -> int:
    if as_json:
        listed = [{"number": n, "step": STEPS[n][0], "passed": ok, "detail": d} for n, ok, d in steps.taken]
        refused = STEPS[steps.taken[-1][0]][0] if code else None
        print(json.dumps({"verified": code == 0, "refused": refused, "exit_code": code, "steps": listed}))
        return code
    for number, holds, detail in steps.taken:
        print(f"{number:2}. {'pass' if holds else 'FAIL'}  {STEPS[number][1]}: {detail}")
    for number in list(STEPS)[list(STEPS).index(steps.taken[-1][0]) + 1 :]:
        print(f"{number:2}.  --   {STEPS[number][1]}")
    print(f"REFUSED at step {steps.taken[-1][0]} ({STEPS[steps.taken[-1][0]][0]})" if code else "verified")
    return code


if __name__ == "__main__":
    sys.exit(main())
