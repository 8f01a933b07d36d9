#!/usr/bin/env python3
"""Check a receipt of `chiron receipt` at the time it was made, years later, with nothing of ours.

Needs this file, Python, and two packages: pip install "cryptography>=50" "dcap-qvl>=0.7"

  verify_receipt.py RECEIPT.json [--owner HEX] [--trust-software-root DER-SHA256]

It checks: (1) the owner's signature over every field; (2) the quote and its collateral by dcap-qvl, under
Intel's root, at the time when the owner verified it; (3) that the quote is over the SHA-512 of the claims;
(4) code, signer, debug mode and patch level against the policy in the receipt; (5) that the claims are of the
spec's job. It says whose receipt it is: compare the owner's key with one that you have from her (--owner).

Exit code: 0 verified; 2 wrong usage; 3 unreadable; 10 + N where check N refused.
"""

import argparse
import base64
import hashlib
import json
import sys
from pathlib import Path
from typing import Any

import dcap_qvl
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

LABEL = b"chiron/v1/receipt"
MAX_BYTES = 32 * 2**20
DEBUG = 2


class Refused(Exception):
    """A check did not hold."""

    def __init__(self, number: int, why: str) -> None:
        super().__init__(why)
        self.number = number


def main(arguments: list[str] | None = None) -> int:
    """Check one file; the module's docstring lists the exit codes."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    parser.add_argument("receipt", type=Path)
    parser.add_argument("--owner", metavar="HEX", help="the owner's signing key, 32 bytes")
    parser.add_argument("--trust-software-root", metavar="SHA256", help="a development TEE: NO protection")
    options = parser.parse_args(arguments)
    try:
        with options.receipt.open("rb") as file:
            signed = json.loads(file.read(MAX_BYTES))
        for line in check(signed, options.owner, options.trust_software_root):
            print(line)
    except Refused as refused:
        print(f"REFUSED at check {refused.number}: {refused}")
        return 10 + refused.number
    except (OSError, ValueError, KeyError, TypeError) as error:
        print(f"error: the receipt cannot be read: {type(error).__name__}", file=sys.stderr)
        return 3
    print("verified")
    return 0


def check(signed: dict[str, Any], owner: str | None, software_root: str | None) -> list[str]:
    """All checks, in order; what they found, a line each."""
    receipt = signed["receipt"]
    _signature(receipt, signed["signature"], owner)
    verified, policy = receipt["verified"], receipt["verified"]["policy"]
    evidence = verified["evidence"]
    told = _by_library(evidence, policy, verified["at"], software_root)
    report = told["report"]["SgxEnclave"]
    if report["report_data"] != hashlib.sha512(canonical(evidence["claims"])).hexdigest():
        raise Refused(3, "the quote is over other claims")
    _by_policy(report, told, policy)
    claims, spec = evidence["claims"], receipt["spec"]
    if (claims["role"], claims["job"]) != ("parameter-server", spec["job"]):
        raise Refused(5, "the enclave is not of the spec's job")
    return [
        f"owner    {base64.b64decode(receipt['owner']).hex()}",
        f"job      {spec['job']}",
        f"code     {report['mr_enclave']}, signed by {report['mr_signer']}, patch level {told['status']}",
        f"verified {verified['at']} (seconds since 1970), granted {receipt['granted_at']}",
        *(f"granted  {line}" for line in receipt["words"]),
    ]


def _signature(receipt: dict[str, Any], signature: str, owner: str | None) -> None:
    key = base64.b64decode(receipt["owner"], validate=True)
    if owner is not None and key.hex() != owner.lower():
        raise Refused(1, "it is another owner's receipt")
    try:
        public = Ed25519PublicKey.from_public_bytes(key)
        public.verify(base64.b64decode(signature, validate=True), bound(LABEL, canonical(receipt)))
    except (InvalidSignature, ValueError):
        raise Refused(1, "the owner's signature does not hold: something was altered") from None


def _by_library(
    evidence: dict[str, Any], policy: dict[str, Any], at: int, software_root: str | None
) -> dict[str, Any]:
    quote = base64.b64decode(evidence["quote"], validate=True)
    collateral = {name: value for name, value in evidence["collateral"].items() if value is not None}
    root = policy.get("software_root")
    try:
        parsed = dcap_qvl.QuoteCollateralV3.from_json(json.dumps(collateral))
        if root is None:
            result = dcap_qvl.verify(quote, parsed, at)
        else:
            der = base64.b64decode(root, validate=True)
            if hashlib.sha256(der).hexdigest() != software_root:
                raise Refused(2, "a SOFTWARE root, which proves nothing: name it to accept it all the same")
            result = dcap_qvl.verify_with_root_ca(quote, parsed, der, at)
        told: dict[str, Any] = json.loads(result.to_json())
    except ValueError as error:
        raise Refused(2, f"dcap-qvl refuses the quote: {str(error)[:200]}") from None
    return told


def _by_policy(report: dict[str, Any], told: dict[str, Any], policy: dict[str, Any]) -> None:
    measurements, signers = policy["measurements"], policy["signers"]
    if policy.get("software_root") is None and not signers:
        raise Refused(4, "the policy names no signer")
    if not measurements and not signers:
        raise Refused(4, "the policy names no code")
    if measurements and report["mr_enclave"] not in measurements:
        raise Refused(4, "the policy does not accept this code")
    if signers and report["mr_signer"] not in signers:
        raise Refused(4, "the policy does not accept this signer")
    if bytes.fromhex(report["attributes"])[0] & DEBUG:
        raise Refused(4, "a debug enclave")
    if told["status"] not in policy["accepted_tcb"] and not policy["grace_days"]:
        raise Refused(4, f"the policy does not accept the patch level {told['status']}")
    accepted = policy["accepted_advisories"]
    if accepted is not None and not set(told["advisory_ids"]) <= set(accepted):
        raise Refused(4, "the policy does not accept an open advisory")


def bound(label: bytes, content: bytes) -> bytes:
    """What is signed: label, a zero byte, content."""
    return label + b"\0" + content


def canonical(value: Any) -> bytes:
    """RFC 8785 of what a receipt holds. Python writes whole numbers with a fraction of .0 otherwise."""
    return json.dumps(_whole(value), sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()


def _whole(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _whole(item) for name, item in value.items()}
    if isinstance(value, list):
        return [_whole(item) for item in value]
    return int(value) if isinstance(value, float) and value.is_integer() else value


if __name__ == "__main__":
    sys.exit(main())
