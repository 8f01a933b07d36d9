"""Bytes that are no model, or that would cost a parser more than they are worth."""

from tests.corpus.onnx.cases import good, hostile, serialised


@hostile("graph-malformed")
def empty_field_zero() -> bytes:
    """Field number 0 does not exist."""
    return b"\x00\x00"


@hostile("graph-malformed")
def text_instead_of_a_model() -> bytes:
    """Somebody's notes."""
    return b"this is not ONNX"


@hostile("graph-malformed")
def cut_in_the_middle() -> bytes:
    """Half of a good model."""
    whole = serialised(good())
    return whole[: len(whole) // 2]


@hostile("graph-malformed")
def length_beyond_the_end() -> bytes:
    """A graph that says it is 2^62 bytes long."""
    return b"\x3a" + b"\xff" * 8 + b"\x3f" + b"x"


@hostile("graph-malformed")
def endlessvarint() -> bytes:
    """A number of eleven bytes."""
    return b"\x08" + b"\x80" * 11 + b"\x01"


@hostile("graph-malformed")
def group_wire_type() -> bytes:
    """A deprecated group, nested a million times: a recursive parser's stack."""
    return b"\x3b" * 1_000_000


@hostile("graph-malformed")
def unknown_fields() -> bytes:
    """A good model with a field that ONNX does not have."""
    return serialised(good()) + b"\xfa\x7f\x03abc"


@hostile("graph-too-complex")
def million_empty_nodes() -> bytes:
    """Two bytes each; an object of some 100 bytes each after parsing."""
    nodes = b"\x0a\x00" * 1_000_000
    return b"\x3a" + varint(len(nodes)) + nodes


@hostile("graph-too-complex")
def million_merged_graphs() -> bytes:
    """The graph field again and again: a parser merges them all."""
    return b"\x3a\x00" * 1_000_000


@hostile("graph-too-large")
def beyond_the_envelope() -> bytes:
    """Five megabytes."""
    return b"\x0a" * (5 * 2**20)


@hostile("name-invalid")
def name_with_control_characters() -> bytes:
    """A terminal escape sequence as a name, for whoever prints it."""
    return serialised(good()).replace(b"weight", b"\x1b[2J\x1b[")


@hostile("name-invalid")
def name_that_is_not_utf8() -> bytes:
    """Proto2 strings are not checked by the parser."""
    return serialised(good()).replace(b"weight", b"\xff\xfe\xfd\xc0\xc1\xf5")


def varint(number: int) -> bytes:
    out = bytearray()
    while number > 0x7F:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    return bytes([*out, number])


@hostile("graph-malformed")
def metadata_that_is_not_text() -> bytes:
    """A parser takes the bytes, and fails with another error where they are read."""
    model = good()
    model.graph.initializer[0].metadata_props.add(key="chiron.asset", value="ZZZZ")
    return serialised(model).replace(b"ZZZZ", b"\xff\xfe\xfd/")
