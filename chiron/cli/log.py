"""`chiron log`: the transparency log of enclave images."""

from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, TypeVar

import typer
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from pydantic import BaseModel, ValidationError

from chiron.cli.image import recorder
from chiron.cli.options import Json, group
from chiron.cli.output import done, note, print_json, warn
from chiron.client.errors import ConfigurationInvalid, LogRejected
from chiron.enclave_image.manifest import INCLUSION_PROOF
from chiron.enclave_image.measurement import measure
from chiron.enclave_image.sigstruct import read_instance
from chiron.enclave_image.transparency_log import TransparencyLog
from chiron.runtime.errors import LogRefused
from chiron.runtime.transparency import check_consistency, check_inclusion
from chiron.wire.transparency import ConsistencyProof, InclusionProof, SignedHead

app = group("The transparency log of enclave images.")
MAX_PROOF_BYTES = 1024 * 1024
_Model = TypeVar("_Model", bound=BaseModel)

_Log = Annotated[Path, typer.Argument(metavar="LOG", help="The log's directory.")]
_Key = Annotated[Path, typer.Option("--key", help="The log's private key; keep it away from the log.")]


@app.command("create")
def create_command(log: _Log, key: _Key) -> None:
    """Create an empty log and its signing key.

    **Example**: `chiron log create log/ --key ~/log-key.pem`
    """
    private = Ed25519PrivateKey.generate()
    pem = private.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    try:
        key.touch(mode=0o600, exist_ok=False)
    except OSError as error:
        raise ConfigurationInvalid(f"{key} cannot be created: {error.strerror}") from error
    key.write_bytes(pem)
    TransparencyLog.create(log, private.public_key().public_bytes_raw())
    done(f"{log} is a log; its key is in {key}")
    print(private.public_key().public_bytes_raw().hex())


@app.command("append")
def append_command(
    log: _Log,
    key: _Key,
    image: Annotated[Path, typer.Option(help="The image that was built.")],
    instance: Annotated[
        Path | None, typer.Option(help="SGX: the Occlum instance that was built of it; untested on hardware.")
    ] = None,
    mrenclave: Annotated[
        str | None,
        typer.Option(metavar="HEX", help="SGX: what `occlum print mrenclave` says, instead of --instance."),
    ] = None,
    mrsigner: Annotated[
        str | None, typer.Option(metavar="HEX", help="With --mrenclave: what `occlum print mrsigner` says.")
    ] = None,
    lock: Annotated[
        Path | None, typer.Option(help="The dependency lock it was built from; default: the checkout's.")
    ] = None,
    revision: Annotated[
        str | None, typer.Option(help="Git commit it was built from; default: the clean checkout's.")
    ] = None,
    json: Json = False,
) -> None:
    """Record a build that `chiron image build` did not record: under SGX, the enclave that Occlum made of it.

    The proof is written beside the instance, or beside the image, where `chiron serve` finds it.

    **Example**: `chiron log append log/ --key ~/log-key.pem --image image/ --instance instance/`
    """
    recording = recorder(log, key, revision=revision, lock=lock)
    if instance is not None:
        signed = read_instance(instance)
        named = (mrenclave or signed.mrenclave).lower(), (mrsigner or signed.mrsigner).lower()
        if named != (signed.mrenclave, signed.mrsigner):
            raise ConfigurationInvalid("--mrenclave or --mrsigner is not the instance's")
        if signed.debug:
            warn("a debuggable enclave: no policy accepts its evidence")
        mrenclave, mrsigner = named
    if (mrenclave is None) != (mrsigner is None):
        raise ConfigurationInvalid("an enclave is named by both, --mrenclave and --mrsigner")
    beside = instance or image
    try:
        proof = recording.record(
            measure(image),
            beside,
            datetime.now(UTC),
            mrenclave=mrenclave and mrenclave.lower(),
            mrsigner=mrsigner and mrsigner.lower(),
        )
    except ValidationError as error:
        raise ConfigurationInvalid("--mrenclave and --mrsigner are 64 hexadecimal digits each") from error
    if json:
        print_json({"entry": proof.entry.model_dump(), "head": proof.head.model_dump(mode="json")})
        return
    done(f"entry {proof.index}: {proof.entry.measurement} from {proof.entry.source_revision}")
    note(f"the proof is in {beside / INCLUSION_PROOF}")


@app.command("head")
def head_command(log: _Log) -> None:
    """Print the latest signed head, after checking the whole log. Keep it: later heads must contain it.

    **Example**: `chiron log head log/ > head.json`
    """
    print(TransparencyLog.open(log).head.model_dump_json())


@app.command("prove")
def prove_command(
    log: _Log,
    measurement: Annotated[
        str | None, typer.Option(help="Prove that this measurement is in the log.")
    ] = None,
    since: Annotated[Path | None, typer.Option(help="Prove that the log only grew since this head.")] = None,
) -> None:
    """Print an inclusion proof (for a policy's `transparency.proof_files`) or a consistency proof.

    **Example**: `chiron log prove log/ --measurement 4f0c… > proof.json`
    """
    opened = TransparencyLog.open(log)
    if measurement is not None and since is None:
        print(opened.prove_inclusion(measurement.lower()).model_dump_json())
    elif since is not None and measurement is None:
        print(opened.prove_consistency(_parsed(since, SignedHead)).model_dump_json())
    else:
        raise ConfigurationInvalid("give --measurement or --since, and not both")


@app.command("verify")
def verify_command(
    what: Annotated[Path, typer.Argument(help="A log's directory, or a proof's file.")],
    log_key: Annotated[
        str | None, typer.Option("--log-key", metavar="HEX", help="The log's public key; for a proof.")
    ] = None,
    since: Annotated[
        Path | None, typer.Option(help="With a log: a head that you kept and that it must contain.")
    ] = None,
    json: Json = False,
) -> None:
    """Check a whole log, an inclusion proof, or the consistency of two heads.

    **Example**: `chiron log verify log/ --since head.json`

    **Example**: `chiron log verify consistency.json --log-key 9d61…`
    """
    try:
        told = _verify_log(what, since, log_key) if what.is_dir() else _verify_proof(what, log_key)
    except LogRefused as error:
        raise LogRejected(str(error)) from error
    if json:
        print_json({"verified": True, **told})
        return
    for name, value in told.items():
        note(f"{name}: {value}")
    done("verified")


def _verify_log(directory: Path, since: Path | None, log_key: str | None) -> dict[str, object]:
    log = TransparencyLog.open(directory)
    if log_key is not None and _public_key(log_key) != log.public_key:
        raise LogRefused("the log is signed by another key")
    if since is not None:
        check_consistency(log.prove_consistency(_parsed(since, SignedHead)), log.public_key)
    return {"entries": len(log.entries), "heads": len(log.heads), "log_key": log.public_key.hex()}


def _verify_proof(path: Path, log_key: str | None) -> dict[str, object]:
    if log_key is None:
        raise ConfigurationInvalid("a proof is verified under the log's key: --log-key HEX")
    key = _public_key(log_key)
    try:
        consistency = _parsed(path, ConsistencyProof)
    except ConfigurationInvalid:
        inclusion = _parsed(path, InclusionProof)
        check_inclusion(inclusion, key)
        return {"index": inclusion.index, **inclusion.entry.model_dump(exclude={"version"})}
    check_consistency(consistency, key)
    return {"first": consistency.first.head.tree_size, "second": consistency.second.head.tree_size}


def _public_key(text: str) -> bytes:
    try:
        return bytes.fromhex(text)
    except ValueError as error:
        raise ConfigurationInvalid("--log-key is 64 hexadecimal digits") from error


def _parsed(path: Path, model: type[_Model]) -> _Model:
    try:
        with path.open("rb") as file:
            return model.model_validate_json(file.read(MAX_PROOF_BYTES))
    except (OSError, ValidationError) as error:
        raise ConfigurationInvalid(f"{path} holds no {model.__name__}") from error
