"""`chiron receipt`: what was verified and granted, as one file for an auditor."""

from pathlib import Path
from typing import Annotated

import typer

from chiron.cli.options import single, unique
from chiron.cli.output import done

app = single()


@app.command("receipt")
def receipt_command(
    job: Annotated[str, typer.Argument(help="Job id, or the beginning of one.")],
    out: Annotated[Path | None, typer.Option("--out", "-o", help="New file; else standard output.")] = None,
) -> None:
    """Write what you verified before you granted, and what you granted, for an auditor.

    It holds no key. `scripts/verify_attestation.py` checks it years later, with nothing else of ours.

    **Example**: `chiron receipt 1c0e --out receipt.json`
    """
    from chiron import OwnerStore
    from chiron.client.receipts import receipt_of

    store = OwnerStore()
    known = {path.stem for path in (store.root / "receipts").glob("*.json") if path.stem.isalnum()}
    text = receipt_of(store, unique(job, known, "job")).model_dump_json(indent=1)
    if out is None:
        print(text)
        return
    with out.open("x") as file:
        file.write(text + "\n")
    done(f"wrote {out}")
