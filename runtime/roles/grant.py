"""Opening a grant: decrypt, parse, check that it was given for this very job; and its name among enclaves."""

import hmac

from pydantic import ValidationError

from chiron.runtime.channels.enrolment import Ticket
from chiron.runtime.errors import GrantRefused, SealingError
from chiron.runtime.sealing import hpke
from chiron.wire import codes
from chiron.wire.grants import Grant
from chiron.wire.jobs import JobSpec
from chiron.wire.labels import GRANT, GRANT_NAME, bind


def open_grant(sealed: bytes, key: hpke.PrivateKey, spec: JobSpec) -> Grant:
    """The grant in `sealed`, if it is for the job that `spec` describes.

    The host told us `spec`; the owner's digest of it in the grant is what makes it true.

    Raises:
        GrantRefused: unreadable, malformed, or for another job, spec or dataset.
    """
    try:
        plaintext = hpke.open(key, sealed, label=GRANT, context=bytes.fromhex(spec.job))
    except SealingError as error:
        raise GrantRefused(
            codes.GRANT_UNREADABLE, "the grant is not sealed to this enclave and job"
        ) from error
    try:
        grant = Grant.model_validate_json(plaintext)
    except ValidationError:
        # From None: the validation error quotes the plaintext, which holds the dataset key.
        raise GrantRefused("grant-malformed", "the grant does not follow its schema") from None
    if grant.job != spec.job:
        raise GrantRefused("grant-for-another-job", "the grant names another job")
    if grant.spec_digest != spec.digest():
        raise GrantRefused("grant-spec-mismatch", "the host launched us with another job spec")
    if grant.dataset_digest != spec.dataset.digest():
        raise GrantRefused("grant-dataset-mismatch", "the job spec names another dataset")
    return grant


def grant_name(grant: Grant | Ticket, spec: JobSpec) -> bytes:
    """The grant's name: 32 bytes, the same for every holder, which tell nothing of its content.

    What a job's enclaves keep and exchange is bound to it: a host can start the same job again with a grant
    of its own, and must not have what was made under another opened there.
    """
    told = bytes.fromhex(spec.digest()) + grant.owner_public_key + grant.owner_signing_key
    return hmac.digest(grant.dataset_key, bind(GRANT_NAME, told), "sha256")
