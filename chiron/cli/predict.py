"""`chiron predict`: sealed queries to a verified predictor."""

import csv
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

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

if TYPE_CHECKING:
    from chiron import AttestationPolicy, JobRecord, OwnerStore, Predictions, Rows

SHOWN_ROWS = 10
app = single()


@app.command("predict")
def predict_command(
    job: Annotated[str, typer.Argument(help="Job id, or the beginning of one. With --pass: the rows.")],
    rows: Annotated[Path | None, typer.Argument(help="Rows: .npz, .npy, .csv, .parquet or images.")] = None,
    held_out: Annotated[bool, typer.Option("--held-out", help="Predict the rows kept back.")] = False,
    pass_file: Annotated[
        Path | None, typer.Option("--pass", metavar="FILE", help="Ask another's model, under their pass.")
    ] = None,
    key: Annotated[
        Path | None,
        typer.Option("--key", metavar="FILE", help="Your own key, where the pass was made for it."),
    ] = None,
    output: Annotated[Path | None, typer.Option("--output", "-o", help="Write predictions as CSV.")] = None,
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
    known (--held-out), the accuracy is told.

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
        predictions, asked = _under_pass(pass_file, key, Path(job), direct=direct, wait_s=wait)
        _tell_all(predictions, asked, output, as_json=json)
        return
    with connecting() as opening:
        from chiron import OwnerStore, read_rows

        store = OwnerStore()
        record = find_job(store, job)
        asked = read_rows(
            _rows_path(store, record, rows, held_out=held_out),
            record.spec.dataset,
            record.class_names,
            record.settled,
        )
        accepted = _policy(record, measurement, policy, trust_software_root, signer)
        with client(accepted, opening) as connection, progress_bar("predicting", "rows") as advance:
            predictions = connection.predict(
                record.spec.job, asked.x, advance, direct=direct, on_opened=tell_opened
            )
    _tell_all(predictions, asked, output, as_json=json)


def _under_pass(
    pass_file: Path, key: Path | None, rows: Path, *, direct: bool, wait_s: int
) -> "tuple[Predictions, Rows]":
    import asyncio

    from chiron import PassHolder, read_rows

    async def ask() -> "tuple[Predictions, Rows]":
        async with PassHolder.from_file(pass_file, key) as holder:
            asked = read_rows(
                rows, holder.content.spec.dataset, holder.content.class_names, holder.content.settled
            )
            with progress_bar("predicting", "rows") as advance:
                return await holder.predict(asked.x, advance, direct=direct, wait_s=wait_s), asked

    return asyncio.run(ask())


def _tell_all(predictions: "Predictions", asked: "Rows", output: Path | None, *, as_json: bool) -> None:
    if output:
        _write_csv(output, predictions)
        done(f"{len(predictions)} predictions written to {output}")
    _show(predictions, asked, as_json=as_json)


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
                "scores": predictions.scores.tolist(),
                "classes": classes.tolist() if classes is not None else None,
                "names": predictions.names if classes is not None else None,
            }
        )
        return
    print_table(["row", "prediction", "score"], _table(predictions, SHOWN_ROWS))
    if len(predictions) > SHOWN_ROWS:
        note(f"… {len(predictions) - SHOWN_ROWS} more: write all with --output FILE")
    for name, value in quality.items():
        done(f"{name.replace('_', ' ')} {value:.4f} on {len(predictions)} rows")


def _quality(predictions: "Predictions", asked: "Rows") -> dict[str, float]:
    import numpy as np

    if asked.y is None:
        return {}
    if predictions.classes is not None:
        return {"accuracy": float((predictions.labels == asked.y).mean())}
    return {"root_mean_squared_error": float(np.sqrt(np.mean((predictions.scores - asked.y) ** 2)))}


def _table(predictions: "Predictions", rows: int) -> list[tuple[object, ...]]:
    import numpy as np

    scores = predictions.scores[:rows]
    if predictions.classes is None:
        return [(number, "", np.array2string(score)) for number, score in enumerate(scores)]
    names = predictions.names[:rows]
    return [
        (number, name, f"{score[0]:g}")
        for number, (name, score) in enumerate(zip(names, scores, strict=True))
    ]


def _write_csv(path: Path, predictions: "Predictions") -> None:
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        if predictions.classes is None:
            writer.writerow(["row", "prediction"])
            writer.writerows(
                (number, *score.ravel().tolist()) for number, score in enumerate(predictions.scores)
            )
            return
        writer.writerow(["row", "rank", "class", "name", "score"])
        for number, (classes, scores) in enumerate(zip(predictions.classes, predictions.scores, strict=True)):
            for rank, (index, score) in enumerate(zip(classes.tolist(), scores.tolist(), strict=True), 1):
                name = predictions.class_names[index] if predictions.class_names else str(index)
                writer.writerow([number, rank, index, name, score])
