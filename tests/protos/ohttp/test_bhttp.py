"""Binary HTTP: what is written is read, in any pieces; anything else is refused and takes bounded memory."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from leanto_wire.errors import ProtocolError
from leanto_wire.ohttp import bhttp
from leanto_wire.ohttp.bhttp import MAX_CONTENT_BYTES, MAX_FIELDS_BYTES, Request, ResponseReader
from leanto_wire.ohttp.varint import Cursor, encode_varint

NAMES = st.text("abcdefghijklmnopqrstuvwxyz-", min_size=1, max_size=20).map(str.encode)
FIELDS = st.lists(st.tuples(NAMES, st.binary(max_size=50)), max_size=4).map(tuple)
SHORT = st.binary(max_size=30)


@given(st.integers(0, 2**62 - 1))
def test_an_integer_is_read_as_it_was_written(value: int) -> None:
    assert Cursor(encode_varint(value)).varint() == value


def test_an_integer_beyond_62_bits_is_refused() -> None:
    with pytest.raises(ValueError, match="62 bits"):
        encode_varint(2**62)


@given(st.builds(Request, SHORT, SHORT, SHORT, SHORT, FIELDS, st.binary(max_size=500)), st.integers(0, 5))
def test_a_request_is_read_as_it_was_written_padded_or_not(request: Request, zeros: int) -> None:
    assert Request.parse(request.encode() + bytes(zeros)) == request


@given(st.integers(200, 599), FIELDS, st.lists(st.binary(min_size=1, max_size=100), max_size=4), FIELDS, st.integers(1, 50))
def test_an_answer_is_read_as_it_was_written_however_it_is_cut(
    status: int, fields: bhttp.Fields, parts: list[bytes], trailers: bhttp.Fields, step: int
) -> None:
    raw = bhttp.head(status, fields) + b"".join(map(bhttp.content, parts)) + bhttp.end(trailers)
    reader = ResponseReader()
    content = b"".join(reader.feed(raw[at : at + step]) for at in range(0, len(raw), step))
    assert (reader.status, reader.fields, content, reader.trailers) == (status, fields, b"".join(parts), trailers)


def test_something_after_the_end_is_refused() -> None:
    with pytest.raises(ProtocolError):
        ResponseReader().feed(bhttp.head(200) + bhttp.end() + b"x")
    with pytest.raises(ProtocolError):
        Request.parse(Request(b"GET", b"https", b"a", b"/").encode() + b"x")


@pytest.mark.parametrize("status", [0, 100, 199, 600, 40000])
def test_an_answer_without_a_final_status_is_refused(status: int) -> None:
    with pytest.raises(ProtocolError):
        ResponseReader().feed(bhttp.head(status))


def test_a_part_over_the_limit_is_refused_before_it_has_come() -> None:
    with pytest.raises(ProtocolError, match="over the limit"):
        ResponseReader().feed(bhttp.head(200) + encode_varint(MAX_CONTENT_BYTES + 1))
    with pytest.raises(ProtocolError, match="over the limit"):
        Request.parse(b"\x00" + encode_varint(MAX_FIELDS_BYTES + 1))
    many = tuple((b"name", b"x" * 1000) for _ in range(6))
    with pytest.raises(ProtocolError, match="over the limit"):
        ResponseReader().feed(bhttp.head(200, many))


@given(st.binary(max_size=300), st.integers(1, 300))
def test_any_bytes_are_a_message_or_refused(raw: bytes, step: int) -> None:
    with contextlib.suppress(ProtocolError):
        Request.parse(raw)
    with contextlib.suppress(ProtocolError):
        reader = ResponseReader()
        for at in range(0, len(raw), step):
            reader.feed(raw[at : at + step])
