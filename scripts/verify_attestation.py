#!/usr/bin/env python3
"""Verify an enclave's attestation evidence, step by step, apart from the rest of the project.

Needs this checkout and four packages: pip install "cryptography>=50" "dcap-qvl>=0.7" "pydantic>=2.11" rfc8785

  verify_attestation.py --quote QUOTE --collateral JSON --mrenclave HEX         a bare quote, offline
  verify_attestation.py --quote QUOTE --pccs URL --mrenclave HEX                collateral fetched
  verify_attestation.py --evidence JSON --job ID --nonce HEX --image DIR        evidence from a file
  verify_attestation.py --url GATEWAY --job ID --policy POLICY.toml             a running job's enclave
  verify_attestation.py --tls HOST:PORT --job ID --policy POLICY.toml           an enclave's TLS endpoint
  verify_attestation.py --image DIR                                             only measure an image

--image takes an image's folder, or a checkout whose scripts/setup has run: then its image is built, by the
code of that checkout, and measured.

Exit code: 0 verified; 2 wrong usage; 3 something could not be read or fetched; 10 + N where step N refused
(docs/attestation.md lists the steps). With --url, the gateway's key is read from CHIRON_API_KEY.
"""

import argparse
import asyncio
import base64
import json
import os
import secrets
import socket
import ssl
import sys
import urllib.error
import urllib.request
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import dcap_qvl
from pydantic import ValidationError

from chiron.enclave_image.errors import ImageError
from chiron.enclave_image.measurement import measure_source
from chiron.runtime.attestation.policy_file import load_policy, load_root
from chiron.runtime.attestation.ra_tls import verify_certificate
from chiron.runtime.attestation.steps import Step, StepResult
from chiron.runtime.attestation.verify import Expected, verify, verify_quote
from chiron.runtime.errors import AttestationError, EvidenceRefused
from chiron.runtime.transparency import lacks_proofs, with_proofs
from chiron.wire.attestation import AttestationPolicy, Collateral, Evidence, Role, TcbStatus
from chiron.wire.transparency import InclusionProof

EXIT_UNREADABLE = 3
EXIT_STEP = 10
"""A refusal at step N exits with 10 + N."""
MAX_BYTES = 4 * 2**20
TIMEOUT_S = 60


class Unreadable(Exception):
    """An input could not be read or fetched."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one verification; the module's docstring lists the exit codes."""
    parser = _parser()
    options = parser.parse_args(arguments)
    try:
        measurement = measure_source(options.image) if options.image else None
        if not (options.quote or options.evidence or options.url or options.tls):
            return _only_measured(parser, measurement)
        policy = _policy(parser, options, measurement)
        steps = _verify(parser, options, policy)
    except EvidenceRefused as error:
        _show(error.steps, as_json=options.json, code=EXIT_STEP + error.step.number)
        return EXIT_STEP + error.step.number
    except (Unreadable, AttestationError, ImageError) as error:
        print(f"error: {error}", file=sys.stderr)
        return EXIT_UNREADABLE
    _show(steps, as_json=options.json, code=0)
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    source = parser.add_argument_group("evidence").add_mutually_exclusive_group()
    source.add_argument("--quote", type=Path, help="a DCAP quote, binary; needs --collateral or --pccs")
    source.add_argument("--evidence", type=Path, help="evidence as the API returns it, JSON; needs --nonce")
    source.add_argument("--url", help="a gateway; a fresh nonce is sent")
    source.add_argument(
        "--tls", metavar="HOST:PORT", help="an enclave that carries evidence in its certificate"
    )
    about = parser.add_argument_group("about the evidence")
    about.add_argument("--collateral", type=Path, help="JSON, field for field dcap-qvl's QuoteCollateralV3")
    about.add_argument("--pccs", metavar="URL", help="fetch the collateral from this PCCS or Intel's PCS")
    about.add_argument("--job", help="the job the enclave must be of")
    about.add_argument("--role", type=Role, choices=list(Role), default=Role.PARAMETER_SERVER)
    about.add_argument("--nonce", type=bytes.fromhex, help="hex; what the evidence must be fresh for")
    about.add_argument("--at", type=_moment, help="verify as of this time (RFC 3339) instead of now")
    policy = parser.add_argument_group(
        "what is accepted (by default: Intel's root, UpToDate, SWHardeningNeeded)"
    )
    policy.add_argument("--policy", type=Path, help="attestation policy, TOML or JSON")
    policy.add_argument(
        "--image", type=Path, metavar="DIR", help="accept what this image or checkout measures"
    )
    policy.add_argument(
        "--mrenclave", action="append", default=[], metavar="HEX", help="accepted measurement"
    )
    policy.add_argument("--mrsigner", action="append", default=[], metavar="HEX", help="accepted signer")
    policy.add_argument("--product-id", type=int, help="with --mrsigner")
    policy.add_argument("--min-svn", type=int, help="with --mrsigner")
    policy.add_argument("--accept-tcb", action="append", default=[], type=TcbStatus, metavar="STATUS")
    policy.add_argument("--accept-advisory", action="append", metavar="INTEL-SA-NNNNN", help="and no others")
    policy.add_argument("--grace-days", type=int, help="forgive an out-of-date TCB level for so long")
    policy.add_argument(
        "--trust-software-root", type=Path, metavar="FILE", help="a development TEE: NO protection"
    )
    parser.add_argument("--json", action="store_true", help="one JSON object on stdout")
    return parser


def _moment(text: str) -> datetime:
    moment = datetime.fromisoformat(text)
    if moment.tzinfo is None:
        raise ValueError("a time zone is needed")
    return moment


def _only_measured(parser: argparse.ArgumentParser, measurement: str | None) -> int:
    if measurement is None:
        parser.error("give evidence (--quote, --evidence, --url or --tls), or --image")
    print(measurement)
    return 0


def _policy(
    parser: argparse.ArgumentParser, options: argparse.Namespace, measurement: str | None
) -> AttestationPolicy:
    """The policy file's fields, overridden by the options."""
    named = [*options.mrenclave, *([measurement] if measurement else [])]
    fields: dict[str, object] = {}
    if options.policy:
        fields = load_policy(options.policy).model_dump(exclude_unset=True)
    if named:
        fields["measurements"] = [name.lower() for name in named]
    if options.mrsigner:
        fields["signers"] = [name.lower() for name in options.mrsigner]
    if options.accept_tcb:
        accepted = fields.get("accepted_tcb", AttestationPolicy.model_fields["accepted_tcb"].default)
        fields["accepted_tcb"] = {*accepted, *options.accept_tcb}  # type: ignore[misc]
    single = {
        "product_id": options.product_id,
        "minimum_svn": options.min_svn,
        "accepted_advisories": options.accept_advisory,
        "grace_days": options.grace_days,
    }
    fields |= {name: value for name, value in single.items() if value is not None}
    if options.trust_software_root:
        fields["software_root"] = load_root(options.trust_software_root)
    try:
        policy = AttestationPolicy.model_validate(fields)
    except ValidationError as error:
        parser.error(
            "; ".join(f"{'.'.join(map(str, e['loc'])) or 'policy'}: {e['msg']}" for e in error.errors())
        )
    if policy.software_root is not None:
        print("WARNING: a SOFTWARE root is trusted: a development TEE protects NOTHING", file=sys.stderr)
    return policy


def _verify(
    parser: argparse.ArgumentParser, options: argparse.Namespace, policy: AttestationPolicy
) -> tuple[StepResult, ...]:
    at = options.at or datetime.now(UTC)
    if options.quote:
        quote = _read(options.quote)
        return verify_quote(quote, _collateral(parser, options, quote), policy, at).steps
    if not options.job:
        parser.error("--job says which job's enclave it must be")
    if options.tls:
        certificate = _certificate_of(options.tls)
        return verify_certificate(certificate, policy, options.role, options.job, at).steps
    if options.evidence:
        if options.nonce is None:
            parser.error("--evidence needs --nonce: without it, old evidence would pass for fresh")
        raw, nonce = _read(options.evidence), options.nonce
    else:
        nonce = options.nonce or secrets.token_bytes(32)
        policy = _with_proofs_of(options.url, policy)
        raw = _ask_gateway(options.url, options.job, options.role, nonce)
    try:
        evidence = Evidence.model_validate_json(raw)
    except ValidationError as error:
        raise Unreadable("the evidence does not follow its schema") from error
    return verify(evidence, policy, Expected(options.role, options.job, nonce), at).steps


def _collateral(parser: argparse.ArgumentParser, options: argparse.Namespace, quote: bytes) -> Collateral:
    if not options.collateral and not options.pccs:
        parser.error("--quote needs --collateral FILE or --pccs URL")
    try:
        if options.collateral:
            return Collateral.model_validate_json(_read(options.collateral))
        fetched = asyncio.run(_fetch(options.pccs, quote))
        return Collateral.model_validate_json(fetched)
    except ValidationError as error:
        raise Unreadable("the collateral does not follow its schema") from error
    except ValueError as error:
        raise Unreadable(f"no collateral from {options.pccs}: {error}") from error


async def _fetch(pccs: str, quote: bytes) -> str:
    async with asyncio.timeout(TIMEOUT_S):
        return str((await dcap_qvl.get_collateral(pccs, quote)).to_json())


def _with_proofs_of(url: str, policy: AttestationPolicy) -> AttestationPolicy:
    """The policy, with the gateway's inclusion proofs where it lacks some that it demands: step 11 checks."""
    if not lacks_proofs(policy):
        return policy
    try:
        images = json.loads(_request(url, "/v1/images", None))
        proofs = [InclusionProof.model_validate(image["proof"]) for image in images if image["proof"]]
    except (ValueError, KeyError, TypeError) as error:
        raise Unreadable(f"{url} told no list of images") from error
    return with_proofs(policy, proofs)


def _ask_gateway(url: str, job: str, role: Role, nonce: bytes) -> bytes:
    body = json.dumps({"role": role.value, "nonce": base64.b64encode(nonce).decode()}).encode()
    return _request(url, f"/v1/jobs/{job}/evidence", body)


def _request(url: str, path: str, body: bytes | None) -> bytes:
    if not url.startswith(("http://", "https://")):
        raise Unreadable("--url is an http or https address")
    key = os.environ.get("CHIRON_API_KEY", "")
    request = urllib.request.Request(  # noqa: S310 - http or https, checked above
        f"{url.rstrip('/')}{path}",
        data=body,
        headers={"Content-Type": "application/json", "Authorization": f"Bearer {key}"},
    )
    try:
        with urllib.request.urlopen(request, timeout=TIMEOUT_S) as response:  # noqa: S310 - as above
            return bytes(response.read(MAX_BYTES))
    except (OSError, ValueError) as error:
        raise Unreadable(f"no answer from {url}: {error}") from error


def _certificate_of(endpoint: str) -> bytes:
    """The endpoint's certificate, DER, after a handshake that proved that it holds the key."""
    host, _, port = endpoint.rpartition(":")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    # Names and issuers prove nothing here: the evidence in the certificate is what is verified.
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    try:
        with (
            socket.create_connection((host.strip("[]"), int(port)), timeout=TIMEOUT_S) as plain,
            context.wrap_socket(plain) as connection,
        ):
            certificate = connection.getpeercert(binary_form=True)
    except (OSError, ValueError) as error:
        raise Unreadable(f"no TLS connection to {endpoint}: {error}") from error
    return certificate or b""


def _read(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            return file.read(MAX_BYTES)
    except OSError as error:
        raise Unreadable(f"{path}: {error.strerror}") from error


def _show(steps: tuple[StepResult, ...], *, as_json: bool, code: int) -> None:
    if as_json:
        listed = [
            {"number": s.step.number, "step": s.step.value, "passed": s.passed, "detail": s.detail}
            for s in steps
        ]
        refused = None if code == 0 else steps[-1].step.value
        print(json.dumps({"verified": code == 0, "refused": refused, "exit_code": code, "steps": listed}))
        return
    for result in steps:
        mark = "pass" if result.passed else "FAIL"
        print(f"{result.step.number:2}. {mark}  {result.step.title}: {result.detail}")
    for step in list(Step)[len(steps) :]:
        print(f"{step.number:2}.  --   {step.title}")
    print("verified" if code == 0 else f"REFUSED at step {steps[-1].step.number} ({steps[-1].step.value})")


if __name__ == "__main__":
    sys.exit(main())
