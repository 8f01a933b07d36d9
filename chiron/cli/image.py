"""`chiron image`: build and measure the enclave image."""

from dataclasses import asdict
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from chiron.cli.options import Json, group
from chiron.cli.output import done, note, print_json, warn
from chiron.cli.serve import IMAGE_FOLDER, STATE_DIR

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    from chiron.enclave_image.manifest import ImageManifest
    from chiron.enclave_image.recording import Recorder

app = group("The enclave image: everything that runs inside, measured.")

_Directory = Annotated[Path, typer.Argument(help="The image's directory.")]


@app.command("build")
def build_command(
    directory: _Directory = STATE_DIR / IMAGE_FOLDER,
    log: Annotated[
        Path | None, typer.Option(help="Record the build in this transparency log; needs --log-key.")
    ] = None,
    log_key: Annotated[Path | None, typer.Option(metavar="FILE", help="The log's private key.")] = None,
    revision: Annotated[
        str | None,
        typer.Option(help="With --log: git commit that is built; default: the clean checkout's."),
    ] = None,
    json: Json = False,
) -> None:
    """Build the image from this machine's locked packages and this source, reproducibly.

    The measurement is what owners put into their policy. The same source, packages, interpreter and C library
    give the same one, whoever builds it and wherever.

    **Example**: `chiron image build`

    **Example**: `chiron image build /tmp/image --json`

    **Example**: `chiron image build --log log/ --log-key ~/log-key.pem`
    """
    from chiron.enclave_image.build import build_image
    from chiron.enclave_image.manifest import INCLUSION_PROOF

    recording = _recorder(log, log_key, revision)
    manifest = build_image(directory, report=lambda stage: note(f"image: {stage}"), recorder=recording)
    if json:
        _print_facts(directory, manifest)
        return
    done(f"{directory}: {manifest.files} files, {manifest.size / 2**20:.0f} MiB")
    if recording is not None:
        done(f"in the log, from {recording.source_revision}: {directory / INCLUSION_PROOF} proves it")
    print(manifest.measurement)


@app.command("measure")
def measure_command(
    directory: _Directory = STATE_DIR / IMAGE_FOLDER,
    occlum: Annotated[
        Path | None,
        typer.Option(metavar="INSTANCE", help="SGX: the enclave that `occlum build` made, instead."),
    ] = None,
    json: Json = False,
) -> None:
    """Tell the measurement of an image as it is on disk now: one changed byte changes it.

    Of a checkout whose `scripts/setup` has run, the image that its own code builds is measured.

    With --occlum: MRENCLAVE and MRSIGNER of a built Occlum instance, one a line, out of what its author
    signed. Untested on hardware.

    **Example**: `chiron image measure`

    **Example**: `chiron image measure --occlum instance/`
    """
    from chiron.enclave_image.measurement import examine, is_checkout, measure_source
    from chiron.enclave_image.sigstruct import read_instance

    if occlum is not None:
        signed = read_instance(occlum)
        if signed.debug:
            warn("a debuggable enclave: no policy accepts its evidence")
        if json:
            print_json(asdict(signed))
        else:
            print(signed.mrenclave)
            print(signed.mrsigner)
        return
    if is_checkout(directory):
        measurement = measure_source(directory)
        print_json({"measurement": measurement}) if json else print(measurement)
        return
    manifest = examine(directory)
    if json:
        _print_facts(directory, manifest)
        return
    print(manifest.measurement)


@app.command("occlum")
def occlum_command(
    output: Annotated[Path, typer.Argument(help="Where Occlum.json and bom.yaml are written.")],
    directory: Annotated[Path, typer.Option("--image", help="The image's directory.")] = STATE_DIR
    / IMAGE_FOLDER,
    development: Annotated[bool, typer.Option("--development", help="Debuggable: protects NOTHING.")] = False,
    glibc: Annotated[str, typer.Option(metavar="X.Y", help="Version of Occlum's C library.")] = "2.35",
) -> None:
    """Check that the image would start under Occlum, and write what `copy_bom` and `occlum build` take.

    What to do with them on an SGX machine is in docs/occlum.md. Never run on SGX hardware by us.

    **Example**: `chiron image occlum occlum/ --image /tmp/image`
    """
    from chiron.enclave_image.occlum_files import parse_version, write_occlum_files

    manifest = write_occlum_files(directory, output, development=development, glibc=parse_version(glibc))
    if development:
        warn("a debuggable enclave: whoever runs it reads its memory, and no policy accepts its evidence")
    done(f"{output}: Occlum.json and bom.yaml of {manifest.measurement}")


def _recorder(log: Path | None, key: Path | None, revision: str | None) -> "Recorder | None":
    from chiron import ConfigurationInvalid

    if log is None and key is None and revision is None:
        return None
    if log is None or key is None:
        raise ConfigurationInvalid("a build is recorded with --log DIR and --log-key FILE")
    return recorder(log, key, revision=revision, lock=None)


def _print_facts(directory: Path, manifest: "ImageManifest") -> None:
    print_json(
        {
            "directory": str(directory),
            "measurement": manifest.measurement,
            "files": manifest.files,
            "bytes": manifest.size,
        }
    )


def recorder(log: Path, key: Path, *, revision: str | None, lock: Path | None) -> "Recorder":
    """A recorder of builds in `log`; revision and lock are by default those of the checkout we run from.

    Raises:
        ConfigurationInvalid: the key, the lock or the revision is not one.
        SourceUnknown: no revision is given, and none names the source that is here.
    """
    from chiron import ConfigurationInvalid
    from chiron.enclave_image.recording import LOCK, Recorder, clean_revision
    from chiron.wire.transparency import REVISION

    private = log_key(key)
    try:
        digest = sha256((lock or LOCK).read_bytes()).hexdigest()
    except OSError as error:
        raise ConfigurationInvalid(f"the lock cannot be read: {error.filename}; give --lock") from error
    if revision is not None and not REVISION.fullmatch(revision):
        raise ConfigurationInvalid("--revision is a git commit, in full")
    return Recorder(log, private, revision or clean_revision(), digest)


def log_key(path: Path) -> "Ed25519PrivateKey":
    """The log's private key in a PEM file.

    Raises:
        ConfigurationInvalid: it holds none.
    """
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    from chiron import ConfigurationInvalid

    try:
        key = serialization.load_pem_private_key(path.read_bytes(), password=None)
    except (OSError, ValueError, TypeError) as error:
        raise ConfigurationInvalid(f"{path} holds no private key") from error
    if not isinstance(key, Ed25519PrivateKey):
        raise ConfigurationInvalid(f"{path} holds no Ed25519 key")
    return key
