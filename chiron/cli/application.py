"""The command's parts put together, and the one place where errors become exit codes."""

from collections.abc import Sequence

import typer

from chiron.cli import attest, builder, data, image, job, keys, log
from chiron.cli.doctor import doctor_command
from chiron.cli.output import fail
from chiron.cli.predict import predict_command
from chiron.cli.serve import serve_command
from chiron.cli.train import train_command
from chiron.cli.upgrade import upgrade_command
from chiron.client.errors import EvidenceRejected

EXIT_FAILED = 1
EXIT_REJECTED = 3
"""Evidence did not verify."""

app = typer.Typer(
    name="chiron",
    no_args_is_help=True,
    rich_markup_mode="markdown",
    pretty_exceptions_enable=False,
    help="Private machine learning as a service.\n\nData owners: data, train, predict, upgrade, job, attest. "
    "Operators: serve, keys, builder, image.\n\nCHIRON_URL names the gateway and CHIRON_API_KEY your key, or "
    "config.toml does both.",
)
_GROUPS = {
    "data": data.app,
    "job": job.app,
    "attest": attest.app,
    "builder": builder.app,
    "image": image.app,
    "log": log.app,
    "keys": keys.app,
}
for _name, _group in _GROUPS.items():
    app.add_typer(_group, name=_name)
app.command("train")(train_command)
app.command("predict")(predict_command)
app.command("upgrade")(upgrade_command)
app.command("serve")(serve_command)
app.command("doctor")(doctor_command)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command.

    Returns its exit code: 0 well, 1 failed, 2 wrong usage, 3 evidence rejected, 130 interrupted.
    """
    try:
        app(args=arguments, prog_name="chiron")
    except SystemExit as ended:
        return ended.code if isinstance(ended.code, int) else 0
    except BrokenPipeError:
        return EXIT_FAILED
    except Exception as error:
        code = getattr(error, "code", None)
        if type(error).__module__.split(".")[0] != "chiron" or not isinstance(code, str):
            raise
        fail(code, str(error))
        return EXIT_REJECTED if isinstance(error, EvidenceRejected) else EXIT_FAILED
    return 0
