"""Status texts: constants, each with a code that gRPC has."""

from __future__ import annotations

import grpc
import pytest

from leanto_wire.status import Refusal


@pytest.mark.parametrize("refusal", Refusal, ids=lambda refusal: refusal.name)
def test_every_refusal_has_a_grpc_code_and_one_short_line(refusal: Refusal) -> None:
    assert hasattr(grpc.StatusCode, refusal.code)
    assert refusal.text.isprintable()
    assert 0 < len(refusal.text) < 100
    assert "{" not in refusal.text
    assert "%" not in refusal.text
