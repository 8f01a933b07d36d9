"""WebAssembly binaries: LEB128 numbers and sections, written and read back."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chiron.builder_kit.chiron_builder.protobuf import varint
from chiron.wasm_sandbox.binary import COMPONENT, encode_leb128, encode_section, read_leb128, read_sections
from chiron.wasm_sandbox.errors import BinaryMalformed

NUMBERS = st.integers(0, 2**32 - 1)
SECTIONS = st.lists(st.tuples(st.integers(0, 255), st.binary(max_size=300)), max_size=6)


@given(NUMBERS, st.binary(max_size=8), st.binary(max_size=8))
def test_a_number_is_read_where_it_was_written(number: int, before: bytes, after: bytes) -> None:
    written = encode_leb128(number)
    data = before + written + after
    assert read_leb128(data, len(before), len(data)) == (number, len(before) + len(written))


@pytest.mark.parametrize(("number", "written"), [(0, "00"), (127, "7f"), (128, "8001"), (624485, "e58e26")])
def test_numbers_are_written_as_the_specification_does(number: int, written: str) -> None:
    assert encode_leb128(number).hex() == written


@given(st.integers(0, 2**64 - 1))
def test_protobuf_writes_the_same_numbers(number: int) -> None:
    """The builder's library has a writer of its own, as it is compiled into components."""
    assert varint(number) == encode_leb128(number)
    assert read_leb128(varint(number), 0, 10, longest=10)[0] == number


@given(NUMBERS)
def test_a_number_that_does_not_end_is_refused(number: int) -> None:
    written = encode_leb128(number)
    with pytest.raises(BinaryMalformed):
        read_leb128(written, 0, len(written) - 1)
    with pytest.raises(BinaryMalformed):
        read_leb128(written, 0, len(written), longest=len(written) - 1)


@given(SECTIONS)
def test_sections_are_read_as_they_were_written(sections: list[tuple[int, bytes]]) -> None:
    binary = COMPONENT + b"".join(encode_section(kind, content) for kind, content in sections)
    assert [(kind, binary[start:end]) for kind, start, end in read_sections(binary)] == sections


@given(SECTIONS.filter(bool), st.data())
def test_a_section_that_is_cut_off_is_refused(sections: list[tuple[int, bytes]], data: st.DataObject) -> None:
    last = encode_section(*sections[-1])
    whole = b"".join(encode_section(kind, content) for kind, content in sections[:-1])
    cut = data.draw(st.integers(1, len(last) - 1))
    with pytest.raises(BinaryMalformed):
        list(read_sections(COMPONENT + whole + last[:cut]))


@given(st.binary(max_size=200))
def test_any_bytes_are_sections_or_refused(content: bytes) -> None:
    try:
        found = list(read_sections(COMPONENT + content))
    except BinaryMalformed:
        return
    assert [section.end for section in found][-1:] == [len(COMPONENT + content)][: len(found)]
