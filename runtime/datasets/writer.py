"""Making an encrypted dataset, chunk by chunk, with no more than one chunk in memory."""

from chiron.runtime.datasets.chunks import ChunkForm, Examples, associated_data
from chiron.runtime.errors import ExamplesInvalid
from chiron.runtime.sealing import stream
from chiron.wire.datasets import MAX_CHUNK_BYTES, DatasetManifest
from chiron.wire.encoding import sha256_hex

_UNKNOWN = "0" * 64


class DatasetWriter:
    """Seals the chunks of one dataset under a fresh key; the manifest is complete after the last one."""

    def __init__(self, form: ChunkForm, dataset_id: str, key: bytes) -> None:
        """`dataset_id` (32 hex) and `key` (32 bytes) must be random and never used for another dataset.

        Raises:
            ExamplesInvalid: a chunk of this form is larger than the protocol carries.
        """
        if form.ciphertext_bytes > MAX_CHUNK_BYTES:
            raise ExamplesInvalid(f"a chunk of {form.rows} examples exceeds {MAX_CHUNK_BYTES} bytes")
        self._form = form
        self._key = key
        self._digests: list[str] = []
        self._examples = 0
        self._ended = False
        self._header = DatasetManifest(
            dataset_id=dataset_id,
            task=form.task,
            input_shape=form.input_shape,
            input_dtype=form.input_dtype,
            target_shape=form.target_shape,
            classes=form.classes,
            examples=1,
            chunk_examples=form.rows,
            chunk_ciphertext_bytes=form.ciphertext_bytes,
            chunk_sha256=(_UNKNOWN,),
        )
        self._bound = associated_data(dataset_id, self._header.header_digest())

    def seal(self, examples: Examples, *, last: bool) -> bytes:
        """Ciphertext of the next chunk; only the last may hold fewer than `form.rows` examples.

        Raises:
            ExamplesInvalid: the examples are not of the form, too few, or come after the last.
        """
        if self._ended or (len(examples.x) != self._form.rows and not last):
            raise ExamplesInvalid("only the last chunk may be short, and nothing follows it")
        plaintext = self._form.encode(examples)
        number = len(self._digests)
        sealed = stream.seal_chunk(self._key, number, plaintext, last=last, associated_data=self._bound)
        self._digests.append(sha256_hex(sealed))
        self._examples += len(examples.x)
        self._ended = last
        return sealed

    def manifest(self) -> DatasetManifest:
        """The finished dataset's manifest.

        Raises:
            ExamplesInvalid: the last chunk has not been sealed.
        """
        if not self._ended:
            raise ExamplesInvalid("the dataset has no last chunk yet")
        counted = {"examples": self._examples, "chunk_sha256": self._digests}
        return DatasetManifest.model_validate(self._header.model_dump() | counted)
