"""What several commands take: options, the policy and the client that they describe, and names of things.

A dataset, builder or job is named by its id, the beginning of one, a name or a path.
"""

from collections.abc import Iterable
from contextlib import AbstractContextManager, nullcontext
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from typer.core import TyperGroup

if TYPE_CHECKING:
    from typer._click.core import Context
    from typer.core import TyperOption

    from chiron import AttestationPolicy, Client, DatasetRecord, JobRecord, OwnerStore
    from chiron.client.connecting import Connecting
    from chiron.wire.contract import BuilderManifest

MIN_PREFIX = 4
"""Characters of an id that may stand for the whole."""

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
Signer = Annotated[
    list[str] | None,
    typer.Option(
        "--signer",
        metavar="HEX",
        help="MRSIGNER that you accept besides; needed on SGX. May be repeated. "
        "`chiron image measure --occlum` tells it.",
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
Machines = Annotated[
    str | None,
    typer.Option(
        metavar="NAME,NAME",
        help="Machines that the model is kept for besides (`chiron machine add`); config.toml's if left out.",
    ),
]

COMPONENT = "builder.wasm"
MANIFEST = "manifest.json"
PathArgument = Annotated[Path, typer.Argument(help="Component (.wasm), or the directory that holds it.")]
ManifestOption = Annotated[
    Path | None, typer.Option("--manifest", help=f"Public manifest; {MANIFEST} beside the component.")
]


class Group(TyperGroup):
    """A group of commands that starts at once.

    Typer reads a value that is no boolean with a library that takes longer to import than everything else
    that a help text needs, and takes a flag that is not given for None.
    """

    def get_help_option(self, ctx: "Context") -> "TyperOption | None":
        """The option `--help`, which is false where it is not given."""
        return plain(super().get_help_option(ctx))


def plain(option: "TyperOption | None") -> "TyperOption | None":
    """The option; a flag is false where it is not given."""
    if option is not None and option.is_flag and option.default is None:
        option.default = False
    return option


def group(summary: str) -> typer.Typer:
    """A group of commands whose help texts are Markdown."""
    return typer.Typer(
        cls=Group, no_args_is_help=True, rich_markup_mode="markdown", add_completion=False, help=summary
    )


def single() -> typer.Typer:
    """A module's one command, whose help text is Markdown."""
    return typer.Typer(rich_markup_mode="markdown", add_completion=False)


def connecting() -> "AbstractContextManager[Connecting | None]":
    """A connection to the configured gateway, opened from now on. What is wrong is told by `client`."""
    from chiron.client.configuration import load_configuration
    from chiron.client.connecting import Connecting
    from chiron.wire.errors import ChironError

    try:
        return Connecting(load_configuration().gateway_url())
    except ChironError:
        return nullcontext()


def client(policy: "AttestationPolicy | None" = None, connecting: "Connecting | None" = None) -> "Client":
    """A client for the configured gateway."""
    from chiron import Client
    from chiron.cli.output import warn

    if policy is not None and policy.software_root is not None:
        warn(
            "a SOFTWARE root is trusted: this TEE is for development, the operator can read everything "
            "that is granted to it"
        )
    if policy is not None:
        warn_of_unpinned(policy)
    return Client(policy=policy, connecting=connecting)


def warn_of_unpinned(policy: "AttestationPolicy") -> None:
    """Say what genuine evidence does not tell, where the policy takes it from any machine."""
    from chiron.cli.output import warn
    from chiron.runtime.attestation.machines import pins_a_machine

    if policy.software_root is None and not pins_a_machine(policy):
        warn(
            "the policy pins no platform: evidence does not tell where a machine stands, and who can reach "
            "its memory's wires can read enclaves or forge evidence (`chiron attest show` tells what to pin)"
        )


def chosen_policy(
    measurement: list[str] | None,
    policy: Path | None,
    software_root: Path | None,
    signer: list[str] | None = None,
) -> "AttestationPolicy":
    """The policy that the options name.

    Raises:
        PolicyMissing: they name none.
    """
    from chiron import policy_of

    return policy_of(measurement or (), signers=signer or (), file=policy, software_root=software_root)


def chosen_machines(option: str | None) -> list[str]:
    """The names that the option has, or the configuration where it is left out."""
    from chiron.client.configuration import load_configuration

    named = load_configuration().machines or "" if option is None else option
    return [name.strip() for name in named.split(",") if name.strip()]


def read_builder(path: Path, manifest: Path | None) -> "tuple[bytes, BuilderManifest]":
    """Component and manifest, read with a bound.

    Raises:
        ConfigurationInvalid: one of them is missing, too large or malformed.
    """
    from pydantic import ValidationError

    from chiron import ConfigurationInvalid
    from chiron.wire.contract import MAX_COMPONENT_BYTES, BuilderManifest

    component = path / COMPONENT if path.is_dir() else path
    described = manifest or component.with_name(MANIFEST)
    if path.is_dir() and not component.exists():
        raise ConfigurationInvalid(f"{path} has no {COMPONENT} yet: `chiron builder build {path}` makes it")
    try:
        if component.stat().st_size > MAX_COMPONENT_BYTES:
            raise ConfigurationInvalid(f"{component} is larger than {MAX_COMPONENT_BYTES} bytes")
        return component.read_bytes(), BuilderManifest.model_validate_json(described.read_bytes())
    except OSError as error:
        raise ConfigurationInvalid(f"{error.filename} cannot be read") from error
    except ValidationError as error:
        wrong = "; ".join(f"{'.'.join(map(str, part['loc']))}: {part['msg']}" for part in error.errors())
        raise ConfigurationInvalid(f"{described} is no builder manifest: {wrong}") from error


def time_named(text: str, now: datetime) -> datetime:
    """When something ends: a number of days from now, or the end of a day like 2027-01-31 (UTC).

    Raises:
        ConfigurationInvalid: it is neither, or has passed.
    """
    from chiron import ConfigurationInvalid

    try:
        if text.isascii() and text.isdigit():
            until = now + timedelta(days=int(text))
        else:
            until = datetime.combine(date.fromisoformat(text), datetime.min.time(), UTC) + timedelta(days=1)
    except (ValueError, OverflowError):
        raise ConfigurationInvalid(f"{text!r} is neither a number of days nor a date") from None
    if until <= now:
        raise ConfigurationInvalid(f"{text!r} has passed")
    return until


def find_dataset(store: "OwnerStore", text: str) -> "DatasetRecord":
    """The dataset of this id, beginning of an id, or bundle directory.

    Raises:
        ConfigurationInvalid: none or several fit.
        RecordMissing: its key is not on this machine.
    """
    from chiron import Bundle

    if Path(text).is_dir():
        return store.dataset(Bundle.open(Path(text)).manifest.dataset_id)
    known = {record.manifest.dataset_id: record for record in store.datasets()}
    return known[unique(text, known, "dataset")]


def find_job(store: "OwnerStore", text: str) -> "JobRecord":
    """The job of this id or beginning of an id.

    Raises:
        ConfigurationInvalid: none or several fit.
    """
    known = {record.spec.job: record for record in store.jobs()}
    return known[unique(text, known, "job")]


def unique(text: str, known: Iterable[str], noun: str) -> str:
    """The one name that is `text`, or begins with it.

    Raises:
        ConfigurationInvalid: none or several fit.
    """
    from chiron import ConfigurationInvalid

    found = [name for name in known if name == text or (len(text) >= MIN_PREFIX and name.startswith(text))]
    if len(found) == 1:
        return found[0]
    problem = "is ambiguous" if found else "is not known here"
    raise ConfigurationInvalid(f"{noun} {text!r} {problem}", code=f"{noun}-not-found")
