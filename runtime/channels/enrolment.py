"""Enrolment: how a trainer or a shard becomes a peer of the parameter server.

1. The trainer verifies the parameter server's evidence: same measurement as its own, same job, and the
   digest of the job CA's certificate that TLS then trusts. It does not judge the machine's patch level yet.
2. Over TLS without a client certificate it asks for a nonce and sends evidence whose claims bind that nonce
   and its TLS public key.
3. The parameter server verifies that evidence by the owner's policy and its own measurement, and issues a
   client certificate from the job's CA. A new enrolment of an index replaces the former holder's.
4. Over mutual TLS the trainer fetches its ticket: job spec, dataset key, the owner's share and policy.
   By the policy it verifies the parameter server's evidence once more, before it uses anything of the ticket.

A shard goes the same way to step 3, where it gets a certificate to serve with, two digests, the policy, by
which it verifies the parameter server once more, and what it seals its checkpoint under. Nothing has proven
by then that whoever is at the other end of the TLS session holds the key in the evidence: so that one secret
is sealed to the HPKE key in the evidence.
"""

import asyncio
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Annotated

from aiohttp import web
from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from pydantic import Field, ValidationError

from chiron.runtime.attestation.verify import Expected, verify
from chiron.runtime.channels.job_ca import JobCa, shard_name
from chiron.runtime.channels.nonces import Nonces
from chiron.runtime.errors import EnrolmentRefused, EvidenceRefused, OpenFailed
from chiron.runtime.sealing import hpke
from chiron.wire import paths
from chiron.wire.answers import json_response
from chiron.wire.attestation import AttestationPolicy, Evidence, HpkePublicKey, Nonce, Role
from chiron.wire.contract import CapabilityGrants
from chiron.wire.doors import BodyTooSlow, read_stranger
from chiron.wire.encoding import Base64, Digest, Share, SigningPublicKey, WireModel, sha256_hex
from chiron.wire.errors import LimitExceeded
from chiron.wire.grants import PredictionPolicy
from chiron.wire.jobs import JobSpec
from chiron.wire.labels import SHARD_CHECKPOINT, SHARD_SHARE, bind
from chiron.wire.machines import MAX_MACHINES, MachineKey

MAX_ENROLMENT_BYTES = 512 * 1024


class Challenge(WireModel):
    """POST /v1/enrol/challenge: the nonce that the trainer's evidence must be fresh for."""

    nonce: Nonce


class EnrolmentRequest(WireModel):
    """POST /v1/enrol and /v1/enrol/shard: who asks, and the evidence for it."""

    index: int = Field(ge=0, le=1023)
    evidence: Evidence
    public_key: Annotated[Base64, Field(min_length=1, max_length=256)]
    """DER SubjectPublicKeyInfo of the applicant's P-256 TLS key."""


class EnrolmentResponse(WireModel):
    """What a trainer is answered: its client certificate, DER."""

    certificate: Annotated[Base64, Field(min_length=1, max_length=4096)]


class ShardAdmission(WireModel):
    """What a shard is told: how to serve, and for whom."""

    certificate: Annotated[Base64, Field(min_length=1, max_length=4096)]
    """DER of the certificate that it serves with, under its index's name."""
    spec_digest: Digest
    """Digest of the spec that the owner granted for."""
    grant_name: Annotated[Base64, Field(min_length=32, max_length=32)]
    """Names the owner's grant (`chiron.runtime.roles.grant.grant_name`): a shard serves no other."""
    sealed_share: Annotated[Base64, Field(min_length=1, max_length=4096)]
    """Sealed by HPKE to the key in the shard's evidence: its share (`shard_share`) of the owner's key."""
    machines: tuple[MachineKey, ...] = Field(default=(), max_length=MAX_MACHINES)
    """Where else the shard's checkpoint opens."""
    attestation: AttestationPolicy
    """The owner's policy, for judging the parameter server."""


class Ticket(WireModel):
    """GET /v1/ticket over mutual TLS: all that a trainer needs to work."""

    spec: JobSpec
    dataset_key: Annotated[Base64, Field(min_length=32, max_length=32)]
    capabilities: CapabilityGrants
    prediction: PredictionPolicy
    owner_public_key: HpkePublicKey
    owner_signing_key: SigningPublicKey
    attestation: AttestationPolicy
    """The owner's policy, for judging the parameter server."""
    share: Share
    """The owner's half of the key that the model and trainers' checkpoints are sealed under."""
    machines: tuple[MachineKey, ...] = Field(default=(), max_length=MAX_MACHINES)
    """Where else these open."""


class Registrar:
    """Decides who is a trainer or shard of this job; holds the serial of each trainer's certificate."""

    def __init__(
        self,
        spec: JobSpec,
        ca: JobCa,
        policy: AttestationPolicy,
        clock: Callable[[], datetime] | None = None,
        grant_name: bytes = bytes(32),
        share: bytes = bytes(32),
        machines: tuple[MachineKey, ...] = (),
    ) -> None:
        """`policy` is narrowed to our own measurement already; `share` and `machines` are the owner's."""
        self._spec = spec
        self._grant_name = grant_name
        self._share = share
        self._machines = machines
        self._ca = ca
        self._policy = policy
        self._clock = clock or (lambda: datetime.now(UTC))
        self._nonces = Nonces()
        self._serials: dict[int, int] = {}

    def challenge(self) -> Challenge:
        """A fresh nonce, good for one enrolment. We keep nothing of it: strangers may ask for any number."""
        return Challenge(nonce=self._nonces.issue())

    def enrol(self, request: EnrolmentRequest) -> EnrolmentResponse:
        """Verify a trainer's evidence and issue its certificate.

        Raises:
            EnrolmentRefused: the index, nonce, evidence or key is not acceptable.
        """
        key = self._verified_key(request, Role.TRAINER, range(self._spec.exchange.trainers))
        certificate = self._ca.issue_client(trainer_name(request.index), key)
        self._serials[request.index] = certificate.serial_number
        return EnrolmentResponse(certificate=certificate.public_bytes(serialization.Encoding.DER))

    def admit_shard(self, request: EnrolmentRequest) -> ShardAdmission:
        """Verify a shard's evidence and issue its certificate. The first shard is the parameter server.

        Raises:
            EnrolmentRefused: the index, nonce, evidence or key is not acceptable.
        """
        key = self._verified_key(request, Role.SHARD, range(1, self._spec.exchange.shards))
        certificate = self._ca.issue_server(key, shard_name(request.index))
        return ShardAdmission(
            certificate=certificate.public_bytes(serialization.Encoding.DER),
            spec_digest=self._spec.digest(),
            grant_name=self._grant_name,
            sealed_share=self._sealed_share(request),
            machines=self._machines,
            attestation=self._policy,
        )

    def _sealed_share(self, request: EnrolmentRequest) -> bytes:
        key = request.evidence.claims.hpke_public_key
        if key is None:
            raise EnrolmentRefused("enrolment-key", "the evidence binds no HPKE key")
        share = shard_share(self._share, self._spec.job, request.index)
        try:
            return hpke.seal(key, share, label=SHARD_SHARE, context=bytes.fromhex(self._spec.job))
        except OpenFailed as error:
            raise EnrolmentRefused("enrolment-key", "the HPKE key cannot be used") from error

    def _verified_key(
        self, request: EnrolmentRequest, role: Role, indices: range
    ) -> ec.EllipticCurvePublicKey:
        claims = request.evidence.claims
        if request.index not in indices:
            raise EnrolmentRefused("enrolment-index", f"the job has no {role} of that index")
        self._nonces.check(claims.nonce)
        expected = Expected(role=role, job=self._spec.job, nonce=claims.nonce)
        try:
            verify(request.evidence, self._policy, expected, self._clock())
        except EvidenceRefused as error:
            raise EnrolmentRefused(error.code, f"the {role}'s evidence does not hold") from error
        # Not before: what fails costs us no memory, so no stranger can fill it.
        self._nonces.use_up(claims.nonce)
        if sha256_hex(request.public_key) != claims.tls_public_key_sha256:
            raise EnrolmentRefused("enrolment-key", "the evidence binds another TLS key")
        return _parse_key(request.public_key)

    def identify(self, request: web.Request) -> int:
        """Index of the trainer at the other end of this TLS connection.

        Raises:
            EnrolmentRefused: no client certificate, or one that a later enrolment replaced.
        """
        transport = request.transport
        peer = transport.get_extra_info("peercert") if transport else None
        if not peer:
            raise EnrolmentRefused("client-certificate-required", "enrol first")
        serial = int(peer["serialNumber"], 16)
        for index, current in self._serials.items():
            if serial == current:
                return index
        raise EnrolmentRefused("client-certificate-replaced", "another enclave holds this index now")


def shard_share(share: bytes, job: str, index: int) -> bytes:
    """What a shard seals its checkpoint under besides the processor's key. It opens nothing else."""
    info = bind(SHARD_CHECKPOINT, bytes.fromhex(job) + index.to_bytes(4, "little"))
    return HKDF(algorithm=SHA256(), length=32, salt=None, info=info).derive(share)


def trainer_name(index: int) -> str:
    """Common name in a trainer's certificate."""
    return f"trainer-{index}"


def _parse_key(der: bytes) -> ec.EllipticCurvePublicKey:
    try:
        key = serialization.load_der_public_key(der)
    except (ValueError, UnsupportedAlgorithm) as error:
        raise EnrolmentRefused("enrolment-key", "the TLS key cannot be read") from error
    if not isinstance(key, ec.EllipticCurvePublicKey) or not isinstance(key.curve, ec.SECP256R1):
        raise EnrolmentRefused("enrolment-key", "the TLS key is not a P-256 key")
    return key


def enrolment_routes(
    registrar: Registrar, ticket: Ticket, ended: asyncio.Event | None = None
) -> list[web.RouteDef]:
    """The parameter server's routes for steps 2 to 4; a middleware makes problems of `EnrolmentRefused`.

    `ended` is set when the job's schedule is over, which is public: shards wait for it.
    """
    over = ended or asyncio.Event()

    async def challenge(_: web.Request) -> web.Response:
        return json_response(registrar.challenge())

    async def enrol(request: web.Request) -> web.Response:
        return json_response(registrar.enrol(await _enrolment(request)))

    async def enrol_shard(request: web.Request) -> web.Response:
        return json_response(registrar.admit_shard(await _enrolment(request)))

    async def fetch_ticket(request: web.Request) -> web.Response:
        registrar.identify(request)
        return json_response(ticket)

    async def wait_for_end(_: web.Request) -> web.Response:
        await over.wait()
        return web.Response(status=204)

    return [
        web.post(paths.ENROL_CHALLENGE, challenge),
        web.post(paths.ENROL, enrol),
        web.post(paths.ENROL_SHARD, enrol_shard),
        web.get(paths.TICKET, fetch_ticket),
        web.get(paths.ENDED, wait_for_end),
    ]


async def _enrolment(request: web.Request) -> EnrolmentRequest:
    try:
        body = await read_stranger(request, MAX_ENROLMENT_BYTES)
        return EnrolmentRequest.model_validate_json(body)
    except (ValidationError, LimitExceeded, BodyTooSlow) as error:
        raise EnrolmentRefused("enrolment-malformed", "the request is malformed") from error


def load_certificate(der: bytes) -> x509.Certificate:
    """Parse a peer's DER certificate.

    Raises:
        EnrolmentRefused: it is not one.
    """
    try:
        return x509.load_der_x509_certificate(der)
    except ValueError as error:
        raise EnrolmentRefused("certificate-malformed", "not a DER certificate") from error
