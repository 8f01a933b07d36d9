"""`chiron data`: encrypt on this machine, upload ciphertext."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from chiron.cli.options import Json, client, group
from chiron.cli.output import done, note, print_json, print_table, progress_bar
from chiron.wire.contract import InputType, Task

if TYPE_CHECKING:
    from chiron import Encrypted

app = group("Encrypt your data here, and upload the ciphertext.")


@app.command("encrypt")
def encrypt_command(
    source: Annotated[
        str,
        typer.Argument(help="sklearn:digits, a .npz, .csv, .tsv or .parquet file, or class folders (.zip)."),
    ],
    out: Annotated[Path, typer.Option("--out", "-o", help="New directory for the ciphertext.")],
    target: Annotated[str | None, typer.Option(help="Tables: the column to predict (the last one).")] = None,
    task: Annotated[Task | None, typer.Option(help="What the targets are, if they do not tell.")] = None,
    dtype: Annotated[InputType | None, typer.Option(help="Tables: element type of the inputs.")] = None,
    shape: Annotated[str | None, typer.Option(help="Tables: shape of a row's inputs, as 1x28x28.")] = None,
    categorical: Annotated[
        list[str] | None, typer.Option(help="Tables: a column of categories (one-hot); repeatable.")
    ] = None,
    fill_missing: Annotated[
        bool | None,
        typer.Option("--fill-missing", help="Tables: a missing number becomes its column's mean."),
    ] = None,
    image_size: Annotated[str | None, typer.Option(help="Images: scale to WIDTHxHEIGHT.")] = None,
    grey: Annotated[
        bool | None, typer.Option("--grey/--colour", help="Images: one channel or three.")
    ] = None,
    held_out: Annotated[float, typer.Option(help="Percent of rows to keep here, to test with.")] = 0.0,
    seed: Annotated[int, typer.Option(help="Of the shuffle.")] = 0,
    json: Json = False,
) -> None:
    """Encrypt a data set under a fresh key.

    The key and the class names go to your own store and are never uploaded; the ciphertext goes to --out.

    **Example**: `chiron data encrypt sklearn:digits --held-out 20 --out digits.enc`

    **Example**: `chiron data encrypt patients.csv --target outcome --out patients.enc`
    """
    from chiron import EncryptOptions, OwnerStore, SourceOptions, encrypt, open_source

    options = SourceOptions(
        target=target,
        task=task,
        input_dtype=dtype,
        input_shape=_dimensions(shape),
        image_size=_pair(image_size),
        grey=grey,
        categorical=tuple(categorical) if categorical else None,
        fill_missing=fill_missing,
    )
    store = OwnerStore()
    with progress_bar("encrypting", "examples") as advance:
        opened = open_source(source, options)
        cut = EncryptOptions(held_out_percent=held_out, seed=seed)
        encrypted = encrypt(opened, out, store, cut, advance)
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


def _dimensions(text: str | None) -> tuple[int, ...] | None:
    if text is None:
        return None
    from chiron import ConfigurationInvalid

    parts = text.lower().replace("×", "x").split("x")
    if not all(part.isdigit() and int(part) > 0 for part in parts):
        raise ConfigurationInvalid(f"{text!r} is not a shape such as 1x28x28")
    return tuple(int(part) for part in parts)


def _pair(text: str | None) -> tuple[int, int] | None:
    size = _dimensions(text)
    if size is None:
        return None
    from chiron import ConfigurationInvalid

    if len(size) != 2:
        raise ConfigurationInvalid(f"{text!r} is not a size such as 32x32")
    return size[0], size[1]
