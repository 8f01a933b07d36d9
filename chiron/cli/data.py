"""`chiron data`: encrypt on this machine, upload ciphertext."""

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from chiron.cli.options import Json, client, group
from chiron.cli.output import done, note, print_json, print_table, progress_bar
from chiron.cli.sources import SourceArgument, with_source_options, write_schema
from chiron.cli.understanding import ask, show

if TYPE_CHECKING:
    from chiron import Encrypted, SourceOptions

app = group("Encrypt your data here, and upload the ciphertext.")


@app.command("inspect")
@with_source_options
def inspect_command(
    source: SourceArgument, options: "SourceOptions", schema: Path | None = None, json: Json = False
) -> None:
    """Tell what would be understood of a data set, and encrypt nothing.

    Where something can be meant in more than one way, the exit code is 2, and the options that settle it are
    named.

    **Example**: `chiron data inspect patients.csv --target outcome`
    """
    from chiron import open_source

    description = open_source(source, options).description
    understood = description.understood
    if json:
        print_json(asdict(understood))
    else:
        show(understood)
    understood.settled()
    write_schema(schema, description)


@app.command("encrypt")
@with_source_options
def encrypt_command(
    source: SourceArgument,
    options: "SourceOptions",
    out: Annotated[Path, typer.Option("--out", "-o", help="New directory for the ciphertext.")],
    schema: Path | None = None,
    held_out: Annotated[float, typer.Option(help="Percent of rows to keep here, to test with.")] = 0.0,
    seed: Annotated[int, typer.Option(help="Of the shuffle.")] = 0,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask whether all was understood.")] = False,
    json: Json = False,
) -> None:
    """Encrypt a data set under a fresh key.

    What was understood of it is shown first, as `chiron data inspect` does, and in a terminal you are asked.

    The key and the class names go to your own store and are never uploaded; the ciphertext goes to --out.

    **Example**: `chiron data encrypt sklearn:digits --held-out 20 --out digits.enc`

    **Example**: `chiron data encrypt patients.csv --target outcome --out patients.enc`
    """
    from chiron import EncryptOptions, OwnerStore, encrypt, open_source

    opened = open_source(source, options)
    show(opened.description.understood)
    ask(opened.description.understood, yes=yes or json)
    with progress_bar("encrypting", "examples") as advance:
        cut = EncryptOptions(held_out_percent=held_out, seed=seed)
        encrypted = encrypt(opened, out, OwnerStore(), cut, advance)
    write_schema(schema, opened.description)
    _report(encrypted, as_json=json)


def _report(encrypted: "Encrypted", *, as_json: bool) -> None:
    manifest, record = encrypted.record.manifest, encrypted.record
    size = manifest.chunks * manifest.chunk_ciphertext_bytes
    if as_json:
        print_json(
            {
                "dataset_id": manifest.dataset_id,
                "digest": manifest.digest(),
                "examples": manifest.examples,
                "chunks": manifest.chunks,
                "ciphertext_bytes": size,
                "bundle": record.bundle,
                "record": encrypted.record_path,
                "held_out": record.held_out,
                "classes": manifest.classes,
                "understood": asdict(encrypted.understood),
            }
        )
        return
    done(f"{manifest.examples} examples in {manifest.chunks} chunks, {size:,} bytes of ciphertext")
    note(f"  dataset     {manifest.dataset_id}")
    note(f"  ciphertext  {record.bundle}")
    note(f"  key         {encrypted.record_path}  (keep it: nobody else has it)")
    if record.held_out:
        note(f"  held out    {record.held_out}")
    note(f"next: chiron data upload {encrypted.bundle.root}")


@app.command("upload")
def upload_command(
    bundle: Annotated[Path, typer.Argument(help="Directory that `chiron data encrypt` wrote.")],
    json: Json = False,
) -> None:
    """Upload an encrypted data set; repeat the command to resume.

    **Example**: `chiron data upload digits.enc`
    """
    from chiron import Bundle

    opened = Bundle.open(bundle)
    with client() as connection, progress_bar("uploading", "chunks") as advance:
        connection.upload_dataset(opened, advance)
    dataset_id = opened.manifest.dataset_id
    if json:
        print_json({"dataset_id": dataset_id, "chunks": opened.manifest.chunks})
        return
    done(f"uploaded dataset {dataset_id}")
    note(f"next: chiron builder list, then chiron train {dataset_id} BUILDER --measurement HEX")


@app.command("list")
def list_command(json: Json = False) -> None:
    """List the data sets whose keys this machine holds.

    **Example**: `chiron data list`
    """
    from chiron import OwnerStore

    records = list(OwnerStore().datasets())
    if json:
        print_json([{"dataset_id": r.manifest.dataset_id, "bundle": r.bundle} for r in records])
        return
    print_table(
        ["dataset", "task", "examples", "input", "bundle"],
        [
            (m.dataset_id, m.task.value, m.examples, "×".join(map(str, m.input_shape)), record.bundle)
            for record in records
            for m in [record.manifest]
        ],
    )


@app.command("forget")
def forget_command(
    dataset: Annotated[str, typer.Argument(help="Dataset id, or the beginning of one.")],
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    json: Json = False,
) -> None:
    """Destroy a data set's key, so that nobody decrypts it again; then have the gateway delete it.

    Refused by the gateway while a job reads it. Models that learnt from it stay: `chiron job forget`.
    Your own files stay, too: the ciphertext that you wrote, and rows that were held out.

    **Example**: `chiron data forget 7fa0`
    """
    from chiron.cli.forget import forget

    forget("datasets", dataset, yes=yes, json=json)
