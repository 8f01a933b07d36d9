"""The keys of one start of a predictor, and its evidence of them."""

from chiron.runtime.attestation.platform import Platform, attest
from chiron.runtime.sealing.hpke import PrivateKey
from chiron.wire.attestation import Claims, Evidence, Role
from chiron.wire.encoding import sha256_hex
from chiron.wire.p256 import generate_key, public_key_der


class PredictorKeys:
    """Made in the enclave, and gone with it."""

    def __init__(self, platform: Platform, job: str) -> None:
        self.key = PrivateKey.generate()
        """Openings, queries, and a model that moves here, are sealed to it."""
        self.tls_key = generate_key()
        """The TLS key of the predictor's own door. It signs statements of what was answered, too."""
        self._platform = platform
        self._job = job

    def evidence(self, nonce: bytes, owner: bytes | None = None) -> Evidence:
        """Fresh evidence; `owner` is the signing key of the model's owner, None while the model is locked."""
        claims = Claims(
            role=Role.PREDICTOR,
            job=self._job,
            hpke_public_key=self.key.public_bytes,
            tls_public_key_sha256=sha256_hex(public_key_der(self.tls_key.public_key())),
            owner_key_sha256=sha256_hex(owner) if owner is not None else None,
            nonce=nonce,
        )
        return attest(self._platform, claims)
