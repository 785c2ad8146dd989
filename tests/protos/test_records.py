"""Records: messages cut over frames come together again, and nothing else passes for them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from leanto_wire.errors import SealError
from leanto_wire.frame import CONSTANT_BYTES
from leanto_wire.records import MAX_RECORD_BYTES, RecordReader, RecordWriter


@given(st.lists(st.one_of(st.binary(max_size=60), st.integers(0, 3 * CONSTANT_BYTES).map(bytes)), max_size=8), st.data())
def test_messages_come_out_as_they_went_in_whenever_frames_leave(messages: list[bytes], data: st.DataObject) -> None:
    writer, reader, read = RecordWriter(), RecordReader(), []
    for message in messages:
        writer.add(message)
        for _ in range(data.draw(st.integers(0, 3))):
            read += reader.feed(writer.take())
    while len(writer):
        read += reader.feed(writer.take())
    reader.close()
    assert read == messages


def test_a_frame_without_anything_to_carry_is_empty() -> None:
    assert RecordWriter().take() == b""
    assert RecordReader().feed(b"") == []


def test_a_record_that_breaks_off_in_a_frame_with_room_is_refused() -> None:
    with pytest.raises(SealError, match="breaks off"):
        RecordReader().feed((9).to_bytes(4, "big") + b"short")


def test_a_stream_that_ends_in_the_middle_of_a_record_is_refused() -> None:
    writer, reader = RecordWriter(), RecordReader()
    writer.add(bytes(CONSTANT_BYTES + 1))
    reader.feed(writer.take())
    with pytest.raises(SealError, match="middle"):
        reader.close()


def test_a_record_over_the_limit_is_refused_by_its_length_alone() -> None:
    with pytest.raises(SealError, match="over the limit"):
        RecordReader().feed((MAX_RECORD_BYTES + 1).to_bytes(4, "big"))
    with pytest.raises(SealError, match="over the limit"):
        RecordWriter().add(bytes(MAX_RECORD_BYTES + 1))


@given(st.lists(st.binary(max_size=CONSTANT_BYTES), max_size=5))
def test_any_bytes_give_messages_or_a_refusal_and_keep_no_more_than_they_are(parts: list[bytes]) -> None:
    reader = RecordReader()
    try:
        read = [message for part in parts for message in reader.feed(part)]
    except SealError:
        return
    assert sum(map(len, read)) <= sum(map(len, parts))
