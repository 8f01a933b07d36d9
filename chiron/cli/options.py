"""Options that several commands share, and the client that they describe."""

from pathlib import Path
from typing import Annotated

import typer

from chiron.cli.output import warn
from chiron.client.client import Client
from chiron.client.configuration import load_configuration
from chiron.client.policies import policy_of
from chiron.wire.attestation import AttestationPolicy

Json = Annotated[bool, typer.Option("--json", help="Print one JSON object on stdout.")]
Yes = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask before granting.")]
Measurement = Annotated[
    list[str] | None,
    typer.Option(
        "--measurement",
        "-m",
        metavar="HEX",
        help="MRENCLAVE of enclave code that you accept; may be repeated. `chiron image measure` tells it.",
    ),
]
PolicyFile = Annotated[
    Path | None,
    typer.Option(
        "--policy", metavar="FILE", help="Attestation policy (TOML or JSON), instead of --measurement."
    ),
]
SoftwareRoot = Annotated[
    Path | None,
    typer.Option(
        "--trust-software-root",
        metavar="FILE",
        help="Accept a development TEE with this root certificate. It protects NOTHING from the operator.",
    ),
]


def client(policy: AttestationPolicy | None = None) -> Client:
    """A client for the configured gateway."""
    if policy is not None and policy.software_root is not None:
        warn(
            "a SOFTWARE root is trusted: this TEE is for development, the operator can read everything "
            "that is granted to it"
        )
    configuration = load_configuration()
    return Client(configuration.gateway_url(), configuration.gateway_key(), policy=policy)


def chosen_policy(
    measurement: list[str] | None, policy: Path | None, software_root: Path | None
) -> AttestationPolicy:
    """The policy that the options name.

    Raises:
        PolicyMissing: they name none.
    """
    return policy_of(measurement or (), file=policy, software_root=software_root)
