"""`chiron share`: passes, by which others may ask a model of yours."""

from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from chiron.cli.options import Group, Json, client, find_job, time_named
from chiron.cli.output import done, note, print_json, print_table, warn

if TYPE_CHECKING:
    from typer._click.core import Command, Context

    from chiron import JobRecord
    from chiron.client.sharing import PassState


class _Sharing(Group):
    """A group whose first argument may also be a job: `chiron share JOB` is `chiron share new JOB`."""

    def resolve_command(
        self, ctx: "Context", args: list[str]
    ) -> "tuple[str | None, Command | None, list[str]]":
        """The command that the arguments name, or the one that makes a pass."""
        named = args if args[0] in self.commands else ["new", *args]
        return super().resolve_command(ctx, named)


app = typer.Typer(
    cls=_Sharing,
    no_args_is_help=True,
    rich_markup_mode="markdown",
    add_completion=False,
    context_settings={"ignore_unknown_options": True},
    help="""Let others ask a job's model, within limits, and take it back.

    `chiron share JOB --rows 1000 --until 2027-01-31 --out colleague.pass` makes a pass: a file that you give
    to a colleague through a safe channel. They need nothing else: `chiron predict --pass colleague.pass
    rows.csv`. Your colleague verifies the predictor as you do, and the operator sees no more of their rows
    than of yours.

    A pass only narrows what your grant lets you see yourself. The predictor's enclave keeps to it, not the
    operator. It answers as long as you keep it open: `chiron predict`, or `chiron keyholder`.
    """,
)
JobArgument = Annotated[str, typer.Argument(help="Job id, or the beginning of one.")]


@app.command("new")
def new_command(
    job: JobArgument,
    rows: Annotated[int, typer.Option(min=1, help="Rows that may be asked, in all.")],
    until: Annotated[str, typer.Option(metavar="DATE|DAYS", help="The last day (UTC), or for how many.")],
    out: Annotated[Path, typer.Option(metavar="FILE", help="Where the pass is written (0600).")],
    top_k: Annotated[int, typer.Option(min=0, help="Classes told per row; 0 is as many as you see.")] = 0,
    decimals: Annotated[int, typer.Option(min=0, max=9, help="Decimals of scores, at most.")] = 9,
    holder: Annotated[
        str | None,
        typer.Option(metavar="KEY", help="Public key that your colleague made: `chiron share key`."),
    ] = None,
    json: Json = False,
) -> None:
    """Make a pass; `chiron share JOB` is short for it.

    The file holds your colleague's key: whoever has it can ask in their name. With --holder it holds no
    secret of theirs; take care then, too, that nobody alters it on its way.

    **Example**: `chiron share 1c0e --rows 1000 --until 2027-01-31 --top-k 1 --out colleague.pass`

    **Example**: `chiron share new 1c0e --rows 50 --until 7 --holder chiron-holder-ed25519:Zm9v… --out b.pass`
    """
    from chiron import ConfigurationInvalid, OwnerStore, PassTerms
    from chiron.client.pass_file import fingerprint, holder_named, write_pass

    record = find_job(OwnerStore(), job)
    end = time_named(until, datetime.now(UTC))
    key = holder_named(holder) if holder else None
    if out.exists():
        raise ConfigurationInvalid(f"{out} exists: name another file")
    with client(record.policy) as connection:
        made = connection.share(record.spec.job, PassTerms(rows, end, top_k, decimals), key)
    write_pass(out, made)
    allowed = made.allowed
    if json:
        print_json({"pass": allowed.id, "file": str(out), **_terms(allowed)})
        return
    done(f"pass {allowed.id} is in {out}: {rows} rows until {_moment(allowed.until)}")
    note(f"its holder's key has the fingerprint {fingerprint(allowed.holder)}")
    if key is None:
        warn(f"{out} holds a key: send it through a safe channel, and keep no copy")
    note(f"your colleague runs: chiron predict --pass {out.name} rows.csv")


@app.command("list")
def list_command(job: JobArgument, json: Json = False) -> None:
    """List a job's passes: whose they are, how many rows were handed out and answered, and until when.

    *Handed out* are rows that a predictor was let answer; *answered* are those that predictors have stated,
    at the end of an opening. A predictor that is killed states nothing: what it was lent counts as used. So
    does what an opening lent whose answer the host kept back; the rows of one that never arrived come back
    with the next.

    **Example**: `chiron share list 1c0e`
    """
    record = _record(job)
    with client(record.policy) as connection:
        states = connection.passes(record.spec.job)
    found = [_described(state) for state in states]
    if json:
        print_json(found)
        return
    columns = ["pass", "holder", "rows", "handed out", "answered", "until", "state"]
    print_table(columns, [[entry[name.replace(" ", "_")] for name in columns] for entry in found])


@app.command("revoke")
def revoke_command(
    job: JobArgument,
    pass_id: Annotated[str, typer.Argument(metavar="PASS", help="Id of a pass, or its beginning.")],
    json: Json = False,
) -> None:
    """Take a pass back. A predictor that is open is told at once; it may be repeated.

    **Example**: `chiron share revoke 1c0e 9f86`
    """
    record = _record(job)
    with client(record.policy) as connection:
        told = connection.revoke(record.spec.job, pass_id)
        state = next(
            state
            for state in connection.passes(record.spec.job)
            if state.issued.allowed.id.startswith(pass_id)
        )
    name, until = state.issued.allowed.id, state.lent_until
    if json:
        print_json({"pass": name, "predictor_told": told, "lent_until": until})
        return
    done(f"pass {name} is revoked" + (", and the open predictor knows it" if told else ""))
    if not told and until is not None:
        note(
            "the gateway shows no open predictor. One that is open all the same answers what is left of "
            f"{state.handed_out - state.answered} rows, until {_moment(until)}"
        )


@app.command("key")
def key_command(
    out: Annotated[Path, typer.Option(metavar="FILE", help="Where your key is written (0600).")],
    json: Json = False,
) -> None:
    """For a colleague of an owner: make a key of your own, which nobody else ever sees.

    Send the owner the line that is printed. The pass that they make with it (--holder) works with your key
    only: `chiron predict --pass colleague.pass --key FILE rows.csv`.

    **Example**: `chiron share key --out my.key`
    """
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    from chiron.client.pass_file import HolderKey, fingerprint, holder_text, public_key_of, write_pass

    made = HolderKey(holder_key=Ed25519PrivateKey.generate().private_bytes_raw())
    write_pass(out, made)
    public = public_key_of(made.holder_key)
    if json:
        print_json({"holder": holder_text(public), "fingerprint": fingerprint(public), "file": str(out)})
        return
    print(holder_text(public))
    done(f"{out} holds your key; send the line above to the model's owner")
    note(f"it has the fingerprint {fingerprint(public)}: compare it with them")


def _record(job: str) -> "JobRecord":
    from chiron import OwnerStore

    return find_job(OwnerStore(), job)


def _described(state: "PassState") -> dict[str, Any]:
    from chiron.client.pass_file import fingerprint

    issued, now = state.issued, datetime.now(UTC).timestamp()
    return {
        "pass": issued.allowed.id,
        "holder": fingerprint(issued.allowed.holder),
        **_terms(issued.allowed),
        "handed_out": state.handed_out,
        "answered": state.answered,
        "state": "revoked" if issued.revoked_at else "expired" if now >= issued.allowed.until else "holds",
    }


def _terms(allowed: Any) -> dict[str, Any]:
    return {
        "rows": allowed.rows,
        "until": _moment(allowed.until),
        "top_k": allowed.top_k,
        "decimals": allowed.decimals,
    }


def _moment(seconds: int) -> str:
    """A time, to the minute. The end of a day is written as such."""
    at = datetime.fromtimestamp(seconds, UTC)
    return f"{at:%Y-%m-%d %H:%M} UTC"
