"""The command's parts by name, each loaded when it is called; and what exit code an error becomes."""

import sys
from collections.abc import Sequence
from pkgutil import resolve_name
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperCommand, TyperOption

from chiron.cli.options import Group, plain

if TYPE_CHECKING:
    from typer._click.core import Command, Context

EXIT_FAILED = 1
EXIT_USAGE = 2
"""Wrong usage, or data of which something must be said first."""
EXIT_REJECTED = 3
"""Evidence did not verify."""

_PARTS = {
    "data": ("chiron.cli.data:app", "Encrypt your data here, and upload the ciphertext."),
    "train": ("chiron.cli.train:app", "Train a builder's model on your encrypted data."),
    "predict": ("chiron.cli.predict:app", "Predict rows with a job's model, which stays in its enclave."),
    "share": ("chiron.cli.share:app", "Let others ask a job's model, within limits, and take it back."),
    "upgrade": ("chiron.cli.upgrade:app", "Move a job's model to newer enclave code that you name."),
    "job": ("chiron.cli.job:app", "List, show and cancel jobs; see what the operator saw."),
    "receipt": (
        "chiron.cli.receipt:app",
        "Write what you verified before you granted, and what you granted, for an auditor.",
    ),
    "keyholder": (
        "chiron.cli.keyholder:app",
        "Open again, while you are away, what a host has started again.",
    ),
    "machine": (
        "chiron.cli.machine:app",
        "Machines that your models are kept for, beside the one that a job runs on.",
    ),
    "attest": ("chiron.cli.attest:app", "Verify enclaves' evidence, or read what it says."),
    "log": ("chiron.cli.log:app", "The transparency log of enclave images."),
    "builder": ("chiron.cli.builder:app", "Write, build, check and publish builders."),
    "image": ("chiron.cli.image:app", "The enclave image: everything that runs inside, measured."),
    "serve": ("chiron.cli.serve:app", "Run a gateway until Ctrl-C or SIGTERM; its enclaves end with it."),
    "keys": (
        "chiron.cli.keys:app",
        "API keys of a gateway that runs on this machine; and a key of your own, for any.",
    ),
    "doctor": (
        "chiron.cli.doctor:app",
        "Check this machine's set-up and say what to do about what is missing.",
    ),
}
"""Where each part is, and its line in the list of commands; a test holds that line to the part's own help."""


_EXTRAS = dict.fromkeys(("serve", "keys", "image", "log"), "operator") | {"builder": "builder"}
"""What brings the packages that a part's commands need, where the data owner's do not."""


class _Part(TyperCommand):
    """A command or group that is not loaded yet."""

    def __init__(self, name: str, place: str, line: str) -> None:
        super().__init__(name, help=line)
        self._place = place

    def load(self) -> "Command":
        """Import it."""
        command = typer.main.get_command(resolve_name(self._place))
        command.name = self.name
        return command


class Parts(Group):
    """The group of all parts. Listing them imports none; calling one imports that one."""

    def __init__(self, **options: Any) -> None:
        options["commands"] = {name: _Part(name, *part) for name, part in _PARTS.items()}
        super().__init__(**options)

    def invoke(self, ctx: "Context") -> Any:
        """Run the part that the arguments name."""
        try:
            return super().invoke(ctx)
        except ModuleNotFoundError:
            name = ctx.invoked_subcommand or ""
            if name not in _EXTRAS:
                raise
            from chiron.client.errors import needing

            with needing(_EXTRAS[name], f"`chiron {name}` needs more than a data owner does"):
                raise

    def resolve_command(
        self, ctx: "Context", args: list[str]
    ) -> "tuple[str | None, Command | None, list[str]]":
        """The part that the arguments name, loaded."""
        name, command, rest = super().resolve_command(ctx, args)
        return name, command.load() if isinstance(command, _Part) else command, rest


app = typer.Typer(name="chiron", cls=Parts, no_args_is_help=True, rich_markup_mode="markdown")


def _tell_version(asked: bool) -> None:
    if asked:
        from importlib.metadata import version

        print(f"chiron {version('chiron-ml')}")
        raise typer.Exit


_Version = Annotated[
    bool, typer.Option("--version", callback=_tell_version, is_eager=True, help="Tell the version, and end.")
]


@app.callback()
def _chiron(version: _Version = False) -> None:
    """Private machine learning as a service.

    Data owners: data, train, predict, share, upgrade, job, receipt, keyholder,
    machine, attest.
    Operators: serve, keys, builder, image, log.

    CHIRON_URL names the gateway and CHIRON_API_KEY your key, or config.toml does both.
    """


def command() -> "Command":
    """The whole command."""
    made = typer.main.get_command(app)
    for option in made.params:
        if isinstance(option, TyperOption):
            plain(option)
    return made


def load(name: str) -> "Command":
    """The command or group of that name; for tests and documentation."""
    return _Part(name, *_PARTS[name]).load()


def names() -> list[str]:
    """All commands and groups."""
    return list(_PARTS)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command.

    Returns its exit code: 0 well, 1 failed, 2 wrong usage or doubtful data, 3 evidence rejected,
    130 interrupted.
    """
    try:
        command()(args=arguments, prog_name="chiron")
    except SystemExit as ended:
        return ended.code if isinstance(ended.code, int) else 0
    except BrokenPipeError:
        return EXIT_FAILED
    except Exception as error:
        return _failed(error)
    return 0


def _failed(error: Exception) -> int:
    """Say what went wrong. What is no error of ours goes on as it is: a traceback is then what helps."""
    from chiron.cli.output import fail, print_traceback
    from chiron.client.errors import EvidenceRejected, SourceDoubtful
    from chiron.wire.errors import ChironError

    if not isinstance(error, ChironError):
        sys.excepthook = print_traceback
        raise error
    fail(error.code, str(error))
    if isinstance(error, SourceDoubtful):
        return EXIT_USAGE
    return EXIT_REJECTED if isinstance(error, EvidenceRejected) else EXIT_FAILED
