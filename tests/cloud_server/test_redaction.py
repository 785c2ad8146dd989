"""What a log record may hold: the node's own words, and nothing of anybody's exception."""

from __future__ import annotations

import logging
import sys

from leanto_cloud.redaction import OWN, WITHHELD, RedactedRecord, place


def record(name: str, message: str, *arguments: object) -> str:
    try:
        raise ValueError("secret")
    except ValueError:
        caught = sys.exc_info()
    made = RedactedRecord(name, logging.ERROR, "file.py", 1, message, arguments, caught)
    return logging.Formatter("%(name)s: %(message)s").format(made)


def test_the_nodes_own_words_pass_without_the_traceback() -> None:
    assert record(OWN, "serving %s", "m@1") == f"{OWN}: serving m@1"
    assert record(f"{OWN}.part", "ready") == f"{OWN}.part: ready"


def test_the_words_of_others_are_withheld() -> None:
    assert record("grpc._cython.cygrpc", "Unexpected %s", "secret") == f"grpc._cython.cygrpc: {WITHHELD}"
    assert record(f"{OWN}x", "secret") == f"{OWN}x: {WITHHELD}"


def test_an_exception_is_told_by_type_and_place_alone() -> None:
    try:
        raise KeyError("secret")
    except KeyError as error:
        told = place(error)
    assert told.startswith("KeyError at test_redaction.py:")
    assert "secret" not in told
    assert place(KeyError("secret")) == "KeyError"
