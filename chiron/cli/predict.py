"""`chiron predict`: sealed queries to a verified predictor."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from chiron.cli.answers import Answers
from chiron.cli.options import (
    Json,
    Measurement,
    PolicyFile,
    Signer,
    SoftwareRoot,
    chosen_policy,
    client,
    connecting,
    find_job,
    single,
)
from chiron.cli.output import done, note, print_json, print_table, progress_bar, tell_opened
from chiron.cli.sources import with_row_options

if TYPE_CHECKING:
    from chiron import AttestationPolicy, JobRecord, OwnerStore, Predictions, Rows, RowsOptions

SHOWN_ROWS = 10
app = single()


@app.command("predict")
@with_row_options
def predict_command(
    job: Annotated[str, typer.Argument(help="Job id, or the beginning of one. With --pass: the rows.")],
    options: "RowsOptions",
    rows: Annotated[
        Path | None, typer.Argument(help="Rows: .npz, .npy, a table (.csv, .parquet, …) or images.")
    ] = None,
    held_out: Annotated[bool, typer.Option("--held-out", help="Predict the rows kept back.")] = False,
    pass_file: Annotated[
        Path | None, typer.Option("--pass", metavar="FILE", help="Ask another's model, under their pass.")
    ] = None,
    key: Annotated[
        Path | None,
        typer.Option("--key", metavar="FILE", help="Your own key, where the pass was made for it."),
    ] = None,
    output: Annotated[Path | None, typer.Option("--output", "-o", help="Write predictions as CSV.")] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace the output, if there is one.")] = False,
    long: Annotated[bool, typer.Option("--long", help="Write a line for each row and class.")] = False,
    direct: Annotated[
        bool, typer.Option("--direct", help="Speak to the predictor's enclave itself, not by the gateway.")
    ] = False,
    wait: Annotated[
        int,
        typer.Option(
            metavar="SECONDS",
            min=0,
            max=86_400,
            help="With --pass: how long a locked predictor's owner has to open it.",
        ),
    ] = 30,
    measurement: Measurement = None,
    signer: Signer = None,
    policy: PolicyFile = None,
    trust_software_root: SoftwareRoot = None,
    json: Json = False,
) -> None:
    """Predict rows with a job's model, which stays in its enclave.

    The predictor is verified with a fresh nonce before each use; unless you say otherwise, against the
    policy that the job was granted under. One that is locked is opened: only you can. Where the targets are
    known (--held-out, or a column called as in the training data), the accuracy is told.

    Columns of a table are found by name, in any order, and encoded as the training data's were. One that is
    missing or not known is refused.

    With --direct, TLS ends in the enclave: its certificate carries the evidence, and the gateway sees nothing
    but bytes go by. The operator must have given predictors addresses of their own.

    **Example**: `chiron predict 1c0e --held-out`

    With --pass you ask a model of somebody who shared it (`chiron share`): name the rows, and no job. The
    pass holds all that is needed; neither configuration nor store are read. A predictor that is stopped is
    started. Only its owner opens it: `chiron keyholder` does so at once, and --wait says how long you wait.

    **Example**: `chiron predict 1c0e new.npz --output predictions.csv`

    **Example**: `chiron predict --pass colleague.pass rows.csv`
    """
    if pass_file is not None:
        if rows is not None or held_out or measurement or signer or policy or trust_software_root:
            raise typer.BadParameter("with --pass, name a file of rows and nothing else of the job")
        named = _Output(output, force=force, long=long, as_json=json)
        _under_pass(pass_file, key, Path(job), options, named, direct=direct, wait_s=wait)
        return
    with connecting() as opening:
        from chiron import OwnerStore, read_rows

        store = OwnerStore()
        record = find_job(store, job)
        path = _rows_path(store, record, rows, held_out=held_out)
        asked = read_rows(path, record.spec.dataset, record.class_names, record.settled, options)
        accepted = _policy(record, measurement, policy, trust_software_root, signer)
        told = _Output(output, force=force, long=long, as_json=json).told(asked)
        connected = client(accepted, opening)
        with told as answers, connected as connection, progress_bar("predicting", "rows") as advance:
            predictions = connection.predict(
                record.spec.job,
                asked.x,
                advance,
                direct=direct,
                on_opened=tell_opened,
                on_answer=answers.keep,
            )
    _show(predictions, asked, as_json=json)


@dataclass(frozen=True)
class _Output:
    """Where the answers go."""

    path: Path | None
    force: bool
    long: bool
    as_json: bool

    @contextmanager
    def told(self, asked: "Rows") -> Iterator[Answers]:
        """A block in which rows are predicted; says at its end what was written, however it ends."""
        answers = Answers(asked, self.path, force=self.force, long=self.long)
        try:
            with answers:
                yield answers
        finally:
            if answers.path is not None and len(answers):
                done(f"{len(answers)} predictions written to {answers.path}")


def _under_pass(
    pass_file: Path,
    key: Path | None,
    rows: Path,
    options: "RowsOptions",
    output: _Output,
    *,
    direct: bool,
    wait_s: int,
) -> None:
    import asyncio

    from chiron import PassHolder, read_rows

    async def ask() -> "tuple[Predictions, Rows]":
        async with PassHolder.from_file(pass_file, key) as holder:
            content = holder.content
            asked = read_rows(rows, content.spec.dataset, content.class_names, content.settled, options)
            with output.told(asked) as answers, progress_bar("predicting", "rows") as advance:
                predictions = await holder.predict(
                    asked.x, advance, direct=direct, wait_s=wait_s, on_answer=answers.keep
                )
            return predictions, asked

    predictions, asked = asyncio.run(ask())
    _show(predictions, asked, as_json=output.as_json)


def _rows_path(store: "OwnerStore", record: "JobRecord", rows: Path | None, *, held_out: bool) -> Path:
    from chiron import ConfigurationInvalid

    if (rows is None) != held_out:
        raise ConfigurationInvalid("name a file of rows, or --held-out, not both")
    if rows is not None:
        return rows
    kept = store.dataset(record.spec.dataset.dataset_id).held_out
    if kept is None:
        raise ConfigurationInvalid("this dataset was encrypted without --held-out: name a file of rows")
    return kept


def _policy(
    record: "JobRecord",
    measurement: list[str] | None,
    policy: Path | None,
    software_root: Path | None,
    signer: list[str] | None,
) -> "AttestationPolicy":
    from chiron import PolicyMissing
    from chiron.client.verifying import HOW_TO_GET_A_MEASUREMENT

    if measurement or policy or software_root or signer:
        return chosen_policy(measurement, policy, software_root, signer)
    if record.policy is None:
        raise PolicyMissing(HOW_TO_GET_A_MEASUREMENT)
    return record.policy


def _show(predictions: "Predictions", asked: "Rows", *, as_json: bool) -> None:
    quality = _quality(predictions, asked)
    if as_json:
        classes = predictions.classes
        print_json(
            {
                "rows": len(predictions),
                **quality,
                "ids": {name: list(texts) for name, texts in asked.ids.items()},
                "scores": predictions.scores.tolist(),
                "classes": classes.tolist() if classes is not None else None,
                "names": predictions.names if classes is not None else None,
            }
        )
        return
    print_table(["row", *asked.ids, "prediction", "score"], _table(predictions, asked, SHOWN_ROWS))
    if len(predictions) > SHOWN_ROWS:
        note(f"… {len(predictions) - SHOWN_ROWS} more: write all with --output FILE")
    for name, value in quality.items():
        done(f"{name.replace('_', ' ')} {value:.4f} on {_rows_known(asked)} rows")


def _quality(predictions: "Predictions", asked: "Rows") -> dict[str, float]:
    """How well rows were predicted whose targets are known."""
    import numpy as np

    if asked.y is None:
        return {}
    if predictions.classes is not None:
        known = asked.y >= 0
        right = predictions.labels[known] == asked.y[known]
        return {"accuracy": float(right.mean())} if known.any() else {}
    known = np.isfinite(asked.y.reshape(len(asked.y), -1)).all(axis=1)
    if not known.any():
        return {}
    errors = predictions.scores[known].reshape(int(known.sum()), -1) - asked.y[known].reshape(
        int(known.sum()), -1
    )
    return {"root_mean_squared_error": float(np.sqrt(np.mean(errors**2)))}


def _rows_known(asked: "Rows") -> int:
    import numpy as np

    if asked.y is None:
        return 0
    return int((asked.y >= 0).sum() if asked.y.dtype.kind == "i" else np.isfinite(asked.y).sum())


def _table(predictions: "Predictions", asked: "Rows", rows: int) -> list[tuple[object, ...]]:
    import numpy as np

    ids = [
        tuple(texts[number] for texts in asked.ids.values()) for number in range(min(rows, len(predictions)))
    ]
    scores = predictions.scores[:rows]
    if predictions.classes is None:
        return [(number, *ids[number], "", np.array2string(score)) for number, score in enumerate(scores)]
    names = predictions.names[:rows]
    return [
        (number, *ids[number], name, f"{score[0]:g}")
        for number, (name, score) in enumerate(zip(names, scores, strict=True))
    ]
