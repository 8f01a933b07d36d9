"""Claims, evidence and the policy that evidence is verified against (RFC 9334's terms)."""

from enum import StrEnum
from hashlib import sha512
from typing import Annotated, Literal, Self

from pydantic import Field, StringConstraints, model_validator

from chiron.wire.encoding import IN_ORDER, Base64, Digest, Identifier, WireModel, canonical_json
from chiron.wire.transparency import TransparencyPolicy

MAX_QUOTE_BYTES = 32 * 1024
MAX_COLLATERAL_BYTES = 256 * 1024

Nonce = Annotated[Base64, Field(min_length=32, max_length=32)]
HpkePublicKey = Annotated[Base64, Field(min_length=1216, max_length=1216)]
"""ML-KEM-768 encapsulation key (1184 bytes) and X25519 public key (32 bytes)."""


class Role(StrEnum):
    """What an enclave does in a job."""

    PARAMETER_SERVER = "parameter-server"
    """The job's root of trust, and the first shard of its vector."""
    SHARD = "shard"
    """Holds another slice of the vector, from index 1; owners never speak to it."""
    TRAINER = "trainer"
    PREDICTOR = "predictor"
    MACHINE = "machine"
    """Tells the key that others seal to for this machine (`chiron.wire.machines`). It is of no job."""


_KEYS_OF_ROLE = {
    Role.PARAMETER_SERVER: {"hpke_public_key", "tls_ca_sha256"},
    Role.SHARD: {"hpke_public_key", "tls_public_key_sha256"},
    Role.TRAINER: {"tls_public_key_sha256"},
    Role.PREDICTOR: {"hpke_public_key"},
    Role.MACHINE: {"hpke_public_key"},
}
_RA_TLS_ROLES = frozenset({Role.PARAMETER_SERVER, Role.PREDICTOR})
"""May also bind the TLS key that they serve with: their certificates then carry the evidence (RA-TLS)."""


class Claims(WireModel):
    """What an enclave says of itself; a quote's report data is SHA-512 of this, canonically written."""

    version: Literal[1] = 1
    role: Role
    job: Identifier
    hpke_public_key: HpkePublicKey | None = None
    """Parameter server and predictor: what owners seal grants and queries to. Shard: what the parameter
    server seals its share of the owner's key to. Machine: what other machines' enclaves seal to."""
    tls_ca_sha256: Digest | None = None
    """Parameter server: digest of the DER certificate of the job's CA."""
    tls_public_key_sha256: Digest | None = None
    """Digest of a DER SubjectPublicKeyInfo. Trainer, shard: of the key it asks a certificate for;
    others: RA-TLS."""
    owner_key_sha256: Digest | None = None
    """Predictor: digest of the signing key of the owner whose model it serves."""
    nonce: Nonce

    @model_validator(mode="after")
    def _binds_the_keys_of_its_role(self) -> Self:
        bound = {
            name
            for name in ("hpke_public_key", "tls_ca_sha256", "tls_public_key_sha256")
            if getattr(self, name) is not None
        }
        if self.role in _RA_TLS_ROLES:
            bound.discard("tls_public_key_sha256")
        if self.owner_key_sha256 is not None and self.role is not Role.PREDICTOR:
            raise ValueError("only a predictor names the owner of a model")
        if bound != _KEYS_OF_ROLE[self.role]:
            raise ValueError(f"a {self.role} must bind exactly {sorted(_KEYS_OF_ROLE[self.role])}")
        return self

    def report_data(self) -> bytes:
        """The 64 bytes that a quote over these claims carries."""
        return sha512(canonical_json(self)).digest()


class Collateral(WireModel):
    """What verifying a quote needs besides the quote; field for field dcap-qvl's `QuoteCollateralV3`."""

    pck_crl_issuer_chain: str = Field(max_length=65_536)
    root_ca_crl: str = Field(max_length=65_536)
    pck_crl: str = Field(max_length=MAX_COLLATERAL_BYTES)
    tcb_info_issuer_chain: str = Field(max_length=65_536)
    tcb_info: str = Field(max_length=MAX_COLLATERAL_BYTES)
    tcb_info_signature: str = Field(max_length=512)
    qe_identity_issuer_chain: str = Field(max_length=65_536)
    qe_identity: str = Field(max_length=65_536)
    qe_identity_signature: str = Field(max_length=512)
    pck_certificate_chain: str | None = Field(default=None, max_length=65_536)


class Evidence(WireModel):
    """A quote, its collateral and the claims it binds."""

    quote: Annotated[Base64, Field(min_length=1, max_length=MAX_QUOTE_BYTES)]
    collateral: Collateral
    claims: Claims


class TcbStatus(StrEnum):
    """Intel's verdicts on a platform's patch level."""

    UP_TO_DATE = "UpToDate"
    SW_HARDENING_NEEDED = "SWHardeningNeeded"
    CONFIGURATION_NEEDED = "ConfigurationNeeded"
    CONFIGURATION_AND_SW_HARDENING_NEEDED = "ConfigurationAndSWHardeningNeeded"
    OUT_OF_DATE = "OutOfDate"
    OUT_OF_DATE_CONFIGURATION_NEEDED = "OutOfDateConfigurationNeeded"
    REVOKED = "Revoked"


Advisory = Annotated[str, StringConstraints(pattern=r"^INTEL-SA-\d{5}$")]


PlatformName = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{32}$")]
FamilyName = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{12}$")]


class PlatformPin(WireModel):
    """A machine, or a family of processors, that a policy accepts: all that is named must be the same."""

    ppid: PlatformName | None = None
    """Of the processor package, in hexadecimal; the same however often SGX is set up anew."""
    instance_id: PlatformName | None = None
    """Of one set of keys of a machine with several packages: another after SGX was set up anew."""
    fmspc: FamilyName | None = None
    """Of a processor's family, model and stepping: millions of machines have the same."""

    @model_validator(mode="after")
    def _names_something(self) -> Self:
        if self.ppid is None and self.instance_id is None and self.fmspc is None:
            raise ValueError("a platform is named by ppid, instance_id or fmspc")
        return self


class AttestationPolicy(WireModel):
    """What evidence must show before anything is entrusted to an enclave."""

    software_root: Annotated[Base64, Field(min_length=1, max_length=8192)] | None = None
    """DER of a development TEE's root certificate. None, the default, means Intel's root."""
    measurements: Annotated[frozenset[Digest], IN_ORDER] = frozenset()
    """Accepted MRENCLAVE values. Where signers are named too, evidence must show one of each."""
    signers: Annotated[frozenset[Digest], IN_ORDER] = frozenset()
    """Accepted MRSIGNER values. Under Intel's root, evidence is refused unless some are named."""
    product_id: int = Field(default=0, ge=0, le=65_535)
    """The signer's product, where `measurements` is empty."""
    minimum_svn: int = Field(default=0, ge=0, le=65_535)
    accepted_tcb: Annotated[frozenset[TcbStatus], IN_ORDER] = frozenset(
        {TcbStatus.UP_TO_DATE, TcbStatus.SW_HARDENING_NEEDED}
    )
    accepted_advisories: Annotated[frozenset[Advisory], IN_ORDER] | None = None
    """Security advisories that may be open on the platform; None accepts any that the TCB status allows."""
    grace_days: int = Field(default=0, ge=0, le=730)
    """A TCB level that is out of date is forgiven until this long after the level's date."""
    minimum_tcb_evaluation: int = Field(default=0, ge=0)
    """Least `tcbEvaluationDataNumber` of TCB info and QE identity: refuses older ones, though in date."""
    platforms: tuple[PlatformPin, ...] = Field(default=(), max_length=256)
    """Machines that are accepted; empty means any that Intel certified, wherever it stands."""
    allow_smt: bool = True
    """False: the PCK certificate must say that hyper-threads are off."""
    allow_dynamic_platform: bool = True
    """False: the PCK certificate must say that no package can be added to the machine."""
    allow_cached_keys: bool = True
    """False: the PCK certificate must say that Intel keeps no root keys of the machine."""
    allow_debug: bool = False
    """Always false, and there to be read: the host sees a debug enclave's memory, so no policy takes one."""
    transparency: TransparencyPolicy | None = None
    """Demands that the measurement is in this transparency log."""

    @model_validator(mode="after")
    def _protects(self) -> Self:
        if self.allow_debug:
            raise ValueError("allow_debug can only be false: whoever runs a debug enclave reads its memory")
        if TcbStatus.REVOKED in self.accepted_tcb:
            raise ValueError("no policy can accept a platform whose keys are revoked")
        if not self.measurements and not self.signers:
            raise ValueError("a policy must name at least one accepted measurement or signer")
        return self
