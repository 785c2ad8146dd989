"""Text out of token ids: nothing is lost, half characters wait, stop texts end it."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from leanto_cloud.engines.text import TextStream


def stream_of(raw: bytes, prompt: bytes = b"", stop: tuple[str, ...] = ()) -> tuple[str, TextStream]:
    """Everything shown for the bytes of `raw`, one byte a token."""
    stream = TextStream(lambda ids: bytes(ids).decode(errors="replace"), list(prompt), stop)
    shown = ""
    for token in raw:
        shown += stream.push(token)
        if stream.stopped:
            return shown, stream
    return shown + stream.flush(), stream


@given(st.text(max_size=40).filter(lambda text: "\ufffd" not in text), st.text("abcé", max_size=20))
def test_all_text_is_shown_exactly_once(text: str, prompt: str) -> None:
    assert stream_of(text.encode(), prompt.encode())[0] == text


def test_half_a_character_waits_for_its_other_half() -> None:
    stream = TextStream(lambda ids: bytes(ids).decode(errors="replace"), [], ())
    first, second = "é".encode()
    assert (stream.push(first), stream.push(second)) == ("", "é")


@given(st.text("abcd", max_size=30), st.text("abcd", min_size=1, max_size=3))
def test_a_stop_text_and_what_follows_are_never_shown(text: str, stop: str) -> None:
    shown, stream = stream_of(text.encode(), stop=(stop,))
    assert shown == text.split(stop)[0]
    assert stream.stopped == (stop in text)
