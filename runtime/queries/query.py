"""A query's plaintext: always as long as the job spec says, however many rows it really asks about.

Layout: magic (8), who asks (16: the id of a pass, or zeros for the owner), request id (16), number of rows
(4, little-endian), one-time HPKE public key that the answer is sealed to (1216), canonical safetensors of `x`
[query_rows, *input_shape], filled up with zero rows.
"""

import secrets
import struct
import time
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from chiron.runtime.datasets.tensors import Form, TensorLayout, is_blank
from chiron.runtime.errors import QueryMalformed, RowsInvalid, TensorsMalformed
from chiron.runtime.sealing.hpke import PUBLIC_KEY_BYTES
from chiron.wire.encoding import Identifier
from chiron.wire.jobs import JobSpec
from chiron.wire.opening import OWNER

MAGIC = b"CHIRONq1"
ASKER_BYTES = 16
REQUEST_ID_BYTES = 16
_TIME_BYTES = 8
_HEAD = struct.Struct(f"<8s{ASKER_BYTES}s{REQUEST_ID_BYTES}sI{PUBLIC_KEY_BYTES}s")


@dataclass(frozen=True, eq=False)
class Query:
    """Rows to predict, and the key that the answer is for."""

    x: NDArray[Any]
    """[rows, *input_shape] in the dataset's input type; 1 to `query_rows` rows."""
    reply_public_key: bytes
    request_id: bytes
    """16 bytes that the answer repeats, and no query twice: the asker's time, then random ones."""
    asker: Identifier = OWNER
    """The pass that it is asked under, or `OWNER`."""

    @classmethod
    def about(cls, x: NDArray[Any], reply_public_key: bytes, asker: Identifier = OWNER) -> "Query":
        """A query with a fresh request id."""
        when = time.time_ns().to_bytes(_TIME_BYTES, "big")
        return cls(x, reply_public_key, when + secrets.token_bytes(REQUEST_ID_BYTES - _TIME_BYTES), asker)


def asker_of(plaintext: bytes) -> Identifier:
    """Who a plaintext, of which nothing is checked yet, says that it comes from."""
    start = len(MAGIC)
    return plaintext[start : start + ASKER_BYTES].hex()


def query_bytes(spec: JobSpec) -> int:
    """Length of every query's plaintext in this job."""
    return _HEAD.size + _layout(spec).size


def encode_query(spec: JobSpec, query: Query) -> bytes:
    """Plaintext of a query, `query_bytes(spec)` long.

    Raises:
        RowsInvalid: no rows, too many, or not of the job's input shape and type.
    """
    layout = _layout(spec)
    form = layout.forms["x"]
    count = len(query.x)
    if not 1 <= count <= spec.query_rows or query.x.shape[1:] != form.shape[1:]:
        raise RowsInvalid(f"a query holds 1 to {spec.query_rows} rows of shape {list(form.shape[1:])}")
    filled = np.zeros(form.shape, query.x.dtype)
    filled[:count] = query.x
    try:
        body = layout.dump({"x": filled})
    except TensorsMalformed as error:
        raise RowsInvalid(str(error)) from error
    asker = bytes.fromhex(query.asker)
    return _HEAD.pack(MAGIC, asker, query.request_id, count, query.reply_public_key) + body


def decode_query(spec: JobSpec, plaintext: bytes) -> Query:
    """The query that `encode_query` wrote; `x` is a read-only view without the filled rows.

    Raises:
        QueryMalformed: it is not one of this job.
    """
    if len(plaintext) != query_bytes(spec):
        raise QueryMalformed("the query is not as long as this job's queries are")
    magic, asker, request_id, count, reply_public_key = _HEAD.unpack_from(plaintext)
    if magic != MAGIC or not 1 <= count <= spec.query_rows:
        raise QueryMalformed("the query's head is malformed")
    try:
        x = _layout(spec).load(plaintext[_HEAD.size :])["x"]
    except TensorsMalformed as error:
        raise QueryMalformed(f"the query is {error}") from error
    if not is_blank(x[count:]):
        raise QueryMalformed("the query has rows after its last one")
    return Query(x[:count], reply_public_key, request_id, asker.hex())


def _layout(spec: JobSpec) -> TensorLayout:
    dtype = np.dtype(spec.dataset.input_dtype.value)
    return TensorLayout({"x": Form(dtype, (spec.query_rows, *spec.dataset.input_shape))})
