"""`chiron job forget` and `chiron data forget`: destroy the keys here, then have the gateway delete."""

import typer

from chiron.cli.options import client, unique
from chiron.cli.output import done, note, print_json, warn

WORDS = {
    "jobs": "Nobody will be able to open what job {id} made, or ask its predictor.",
    "datasets": "Nobody will be able to decrypt dataset {id}, here or at the gateway.",
}
_NOUNS = {"jobs": "job", "datasets": "dataset"}


def forget(kind_name: str, text: str, *, yes: bool, json: bool) -> None:
    """Forget the job or dataset that `text` names, or complete what was begun.

    Raises:
        ConfigurationInvalid: none or several fit.
        GatewayError: the keys are destroyed, and the gateway has not deleted yet.
    """
    from chiron import OwnerStore
    from chiron.client.forgetting import Kind, destroy, tombstones

    store, kind = OwnerStore(), Kind(kind_name)
    stones = {stone.id for stone in tombstones(store, kind)}
    records = {path.stem for path in (store.root / kind).glob("*.json")}
    name = unique(text, records | stones, _NOUNS[kind])
    if name in records and not yes:
        _confirm(WORDS[kind].format(id=name), name)
    destroy(store, kind, name)
    note(f"destroyed: the keys of {_NOUNS[kind]} {name} here (backups of them are yours to destroy)")
    try:
        with client() as connection:
            forgotten = connection.forget_job if kind is Kind.JOB else connection.forget_dataset
            stone = forgotten(name)
    except Exception:
        warn("the gateway has NOT deleted its ciphertext yet: run the same command again later")
        raise
    if json:
        print_json(stone.model_dump(mode="json"))
        return
    done(f"the gateway says that it has deleted {_NOUNS[kind]} {name}")


def _confirm(words: str, name: str) -> None:
    note(words)
    typed = typer.prompt(f"Type the first 8 characters of the id ({name[:8]}...) to go on", err=True)
    if typed.strip().rstrip(".") not in (name, name[:8]):
        raise typer.Abort
