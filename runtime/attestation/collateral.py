"""TCB info and quoting-enclave identity: steps 5 and 6 (Intel PCS API v4: tcb info v3, identity v2)."""

from datetime import datetime
from typing import Annotated, Literal, TypeVar

from cryptography import x509
from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, StringConstraints, ValidationError

from chiron.runtime.attestation.attributes import Flag
from chiron.runtime.attestation.chains import certificate_key, check_signature
from chiron.runtime.attestation.pck import Platform
from chiron.runtime.attestation.quote import Report
from chiron.runtime.attestation.steps import StepFailed
from chiron.wire.attestation import TcbStatus


def _hexadecimal(length: int) -> StringConstraints:
    return StringConstraints(pattern=rf"^[0-9A-Fa-f]{{{2 * length}}}$")


class _Signed(BaseModel):
    """Intel may add fields without a new version: unknown ones are ignored, as they are signed anyway."""

    model_config = ConfigDict(frozen=True, extra="ignore")


class Component(_Signed):
    """One SVN component of a TCB level."""

    svn: int = Field(ge=0, le=255)


class PlatformSvns(_Signed):
    """The SVNs that a platform must reach for a level."""

    components: tuple[Component, ...] = Field(alias="sgxtcbcomponents", min_length=16, max_length=16)
    pce: int = Field(alias="pcesvn", ge=0, le=65_535)


class QeSvn(_Signed):
    """The SVN that a quoting enclave must reach for a level."""

    svn: int = Field(alias="isvsvn", ge=0, le=65_535)


class _Level(_Signed):
    date: AwareDatetime = Field(alias="tcbDate")
    status: TcbStatus = Field(alias="tcbStatus")
    advisories: tuple[str, ...] = Field(default=(), alias="advisoryIDs", max_length=256)


class PlatformLevel(_Level):
    """One row of a TCB info."""

    tcb: PlatformSvns


class QeLevel(_Level):
    """One row of a QE identity."""

    tcb: QeSvn


class _Dated(_Signed):
    issued: AwareDatetime = Field(alias="issueDate")
    next_update: AwareDatetime = Field(alias="nextUpdate")
    evaluation: int = Field(alias="tcbEvaluationDataNumber", ge=0)


class TcbInfo(_Dated):
    """What patch levels of one processor family are worth."""

    id: Literal["SGX"]
    version: Literal[3]
    fmspc: Annotated[str, _hexadecimal(6)]
    pce_id: Annotated[str, Field(alias="pceId"), _hexadecimal(2)]
    levels: tuple[PlatformLevel, ...] = Field(alias="tcbLevels", min_length=1, max_length=256)


class QeIdentity(_Dated):
    """What a genuine quoting enclave looks like."""

    id: Literal["QE"]
    version: Literal[2]
    misc_select: Annotated[str, Field(alias="miscselect"), _hexadecimal(4)]
    misc_select_mask: Annotated[str, Field(alias="miscselectMask"), _hexadecimal(4)]
    attributes: Annotated[str, _hexadecimal(16)]
    attributes_mask: Annotated[str, Field(alias="attributesMask"), _hexadecimal(16)]
    signer: Annotated[str, Field(alias="mrsigner"), _hexadecimal(32)]
    product_id: int = Field(alias="isvprodid", ge=0, le=65_535)
    levels: tuple[QeLevel, ...] = Field(alias="tcbLevels", min_length=1, max_length=256)


_Statement = TypeVar("_Statement", TcbInfo, QeIdentity)


def check_statement(
    model: type[_Statement], name: str, raw: str, signature: str, signer: x509.Certificate, at: datetime
) -> _Statement:
    """Check signature, form and dates of a TCB info or QE identity, and return it.

    Raises:
        StepFailed: one does not hold.
    """
    try:
        check_signature(name, certificate_key(signer), bytes.fromhex(signature), raw.encode())
        statement = model.model_validate_json(raw)
    except (ValidationError, ValueError) as error:
        raise StepFailed(f"the {name} cannot be read") from error
    if at < statement.issued:
        raise StepFailed(f"the {name} is of the future")
    if at > statement.next_update:
        raise StepFailed(f"the {name} expired on {statement.next_update:%Y-%m-%d}")
    return statement


def check_same_platform(info: TcbInfo, platform: Platform) -> None:
    """Check that the TCB info is of the platform's processor family and PCE.

    Raises:
        StepFailed: it does not.
    """
    if (platform.fmspc, platform.pce_id) != (bytes.fromhex(info.fmspc), bytes.fromhex(info.pce_id)):
        raise StepFailed(f"the TCB info is of FMSPC {info.fmspc}, the processor of {platform.fmspc.hex()}")


def check_same_recovery(info: TcbInfo, identity: QeIdentity) -> None:
    """Check that the QE identity is at least as new as the TCB info.

    Intel raises the evaluation number of both with every TCB recovery. An older identity beside newer TCB
    info would let a quoting enclave pass that this recovery has replaced.

    Raises:
        StepFailed: it is older.
    """
    if identity.evaluation < info.evaluation:
        raise StepFailed(f"evaluation {identity.evaluation}, the TCB info's is {info.evaluation}")


def check_quoting_enclave(identity: QeIdentity, report: Report) -> None:
    """Check that the report is of the enclave that the identity describes.

    Raises:
        StepFailed: with what differs.
    """
    if report.signer != bytes.fromhex(identity.signer) or report.product_id != identity.product_id:
        raise StepFailed(f"the quoting enclave is signed by {report.signer.hex()}")
    mask = int.from_bytes(bytes.fromhex(identity.misc_select_mask), "little")
    expected = int.from_bytes(bytes.fromhex(identity.misc_select), "little")
    if report.misc_select & mask != expected & mask:
        raise StepFailed("the quoting enclave's MISCSELECT differs")
    masks = bytes.fromhex(identity.attributes_mask)
    wanted = bytes.fromhex(identity.attributes)
    differ = any((a ^ b) & m for a, b, m in zip(report.attributes, wanted, masks, strict=True))
    if differ or report.flags & Flag.DEBUG:
        raise StepFailed("the quoting enclave's attributes differ")
