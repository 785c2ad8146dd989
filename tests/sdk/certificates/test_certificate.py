from __future__ import annotations

import base64
import json
import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given
from hypothesis import strategies as st

from leanto.certificates.certificate import SKEW_S, Certificate, Point, from_points, iso_time, sign, tighten, usable, verify
from leanto.certificates.certified import score_name
from leanto.certificates.selective_risk import Certified
from leanto.errors import CertificateError

KEY = Ed25519PrivateKey.from_private_bytes(bytes(range(32)))
OTHER = Ed25519PrivateKey.from_private_bytes(bytes(32))
ISSUED, EXPIRES = 1_790_000_000.0, 1_797_776_000.0
NOW = ISSUED + 1000
GOOD = Certificate(
    task="call",
    build="b" * 64,
    cloud_model="pocket-large",
    score="confidence",
    event="disagreement",
    delta=0.05,
    n=3000,
    points=(Point(0.05, 0.8, 0.7, 0.049), Point(0.025, 0.93, 0.5, 0.024)),
    issued_at=ISSUED,
    expires_at=EXPIRES,
)


def pin(key: Ed25519PrivateKey) -> str:
    return base64.b64encode(key.public_key().public_bytes_raw()).decode()


def reason(text: str, *, key: Ed25519PrivateKey = KEY, now: float = NOW, **other: str) -> str:
    """Why `text` counts as none."""
    found, why = usable(
        text,
        pin(key),
        other.get("build", "b" * 64),
        other.get("cloud", "pocket-large"),
        other.get("task", "call"),
        now,
        score=other.get("score", "confidence"),
    )
    assert found is None
    assert why
    return why


def changed(edit: Callable[[dict[str, Any]], object], *, signed: bool = False) -> str:
    """The certificate with its JSON edited, signed again or not."""
    body = json.loads(sign(GOOD, KEY))
    edit(body)
    if signed:
        body.pop("signature", None)
        canonical = json.dumps(body, sort_keys=True, separators=(",", ":"))
        body["signature"] = base64.b64encode(KEY.sign(b"leanto risk certificate\x00" + canonical.encode())).decode()
    return json.dumps(body)


def test_a_signed_certificate_comes_back_as_it_was() -> None:
    assert usable(sign(GOOD, KEY), pin(KEY), "b" * 64, "pocket-large", "call", NOW, score="confidence") == (GOOD, "")
    assert (GOOD.alpha, GOOD.threshold) == (0.05, 0.8)


def test_layout_and_order_do_not_matter_to_the_signature() -> None:
    body = json.loads(sign(GOOD, KEY))
    assert verify(json.dumps(dict(reversed(body.items())), indent=2), pin(KEY)) == GOOD


def test_the_signature_covers_every_field() -> None:
    body = json.loads(sign(GOOD, KEY))
    for name in set(body) - {"signature", "format"}:
        value = {"n": 9999, "delta": 0.06, "points": body["points"][:1]}.get(name, "1970-01-01T00:00:00Z")
        assert "changed" in reason(changed(lambda edited, name=name, value=value: edited.update({name: value}))), name


def test_a_lower_threshold_in_a_point_is_noticed() -> None:
    assert "changed" in reason(changed(lambda body: body["points"][0].update(threshold=0.1)))


@given(st.integers(0, 10_000), st.integers(0, 255))
def test_no_changed_byte_goes_unnoticed(at: int, byte: int) -> None:
    text = sign(GOOD, KEY).encode()
    at %= len(text)
    forged = text[:at] + bytes([byte]) + text[at + 1 :]
    found, why = usable(forged.decode("latin-1"), pin(KEY), "b" * 64, "pocket-large", "call", NOW, score="confidence")
    assert found == GOOD or why  # JSON has several ways to write one value


def test_another_key_and_no_signature_are_refused() -> None:
    assert "pinned key" in reason(sign(GOOD, OTHER))
    assert "pinned key" in reason(sign(GOOD, KEY), key=OTHER)
    assert "not signed" in reason(changed(lambda body: body.pop("signature")))
    assert "pinned key" in reason(changed(lambda body: body.update(signature="AAAA")))


def test_a_pin_that_is_no_key_accepts_nothing() -> None:
    for wrong in ("", "AAAA", "not base64"):
        assert usable(sign(GOOD, KEY), wrong, "b" * 64, "pocket-large", "call", NOW, score="confidence")[0] is None


def test_a_foreign_certificate_counts_as_none_and_says_whose_it_is() -> None:
    text = sign(GOOD, KEY)
    assert "build" in reason(text, build="c" * 64)
    assert "cloud model 'pocket-large', not 'gpt'" in reason(text, cloud="gpt")
    assert "task 'call', not 'text'" in reason(text, task="text")
    assert "not None" in GOOD.valid_for(GOOD.build, None, "call", NOW, score="confidence").reason
    assert "score 'confidence', not 'margin'" in reason(text, score="margin")


def test_a_confidence_that_was_fitted_anew_is_another_score() -> None:
    names = {score_name(model) for model in (None, {}, {"bias": 0.1}, {"bias": 0.2}, {"bias": 0.1, "threshold": 0.5})}
    assert len(names) == 4
    assert score_name({"a": 1, "b": 2}) == score_name({"b": 2, "a": 1})


def test_it_expires_and_a_clock_that_went_back_is_noticed() -> None:
    assert "expired at" in reason(sign(GOOD, KEY), now=EXPIRES)
    assert GOOD.valid_for(GOOD.build, GOOD.cloud_model, "call", EXPIRES - 1, score="confidence")
    assert GOOD.valid_for(GOOD.build, GOOD.cloud_model, "call", ISSUED - SKEW_S, score="confidence")
    assert "set the clock" in reason(sign(GOOD, KEY), now=ISSUED - SKEW_S - 1)
    assert "set the clock" in reason(sign(GOOD, KEY), now=0.0)
    assert "time" in reason(sign(GOOD, KEY), now=math.nan)


@pytest.mark.parametrize(
    "text", ["", "null", "[]", "{}", "[" * 100_000, '{"format": 1}', '{"format": 2}', "\ud800", '{"format": 2, "signature": 3}', "9" * 5000]
)
def test_what_is_no_certificate_counts_as_none(text: str) -> None:
    assert reason(text)


NONSENSE: dict[str, Callable[[dict[str, Any]], object]] = {
    "no points": lambda body: body.update(points=[]),
    "a point of other fields": lambda body: body["points"][0].update(more=1),
    "points that are none": lambda body: body.update(points=3),
    "a threshold above one": lambda body: body["points"][0].update(threshold=1.5),
    "a bound above alpha": lambda body: body["points"][0].update(bound=0.2),
    "a looser further point": lambda body: body["points"][1].update(alpha=0.07),
    "a number as text": lambda body: body.update(delta="0.05"),
    "true as a number": lambda body: body.update(n=True),
    "a time that is none": lambda body: body.update(issued_at="yesterday"),
    "a time as a number": lambda body: body.update(issued_at=5),
    "expiry before issue": lambda body: body.update(expires_at="1999-01-01T00:00:00Z"),
    "no task": lambda body: body.pop("task"),
    "no event": lambda body: body.pop("event"),
    "an event that nobody knows": lambda body: body.update(event="better"),
    "an event that is no word": lambda body: body.update(event=[]),
    "an empty build": lambda body: body.update(build=""),
    "two lines": lambda body: body.update(score="a\nb"),
}


@pytest.mark.parametrize("edit", NONSENSE.values(), ids=NONSENSE.keys())
def test_nonsense_counts_as_none_even_if_it_is_signed(edit: Callable[[dict[str, Any]], object]) -> None:
    assert reason(changed(edit, signed=True))


def test_nan_cannot_be_signed() -> None:
    with pytest.raises(CertificateError):
        replace(GOOD, delta=math.nan)


def test_an_alarm_leads_to_the_next_stricter_point_and_then_to_the_cloud_alone() -> None:
    assert tighten(GOOD, 0.8) == 0.93
    assert tighten(GOOD, 0.85) == 0.93
    assert tighten(GOOD, 0.93) is None


def test_only_what_is_stricter_becomes_a_further_point() -> None:
    rows = ((0.1, 0.5, 80, 0.08), (0.05, 0.4, 90, 0.04), (0.02, 0.7, 60, 0.02))
    found = [Certified(alpha, 0.05, 100, threshold, kept, 0, bound) for alpha, threshold, kept, bound in rows]
    names = {"task": "call", "build": "b", "cloud_model": "c", "score": "s", "event": "wrong", "issued_at": ISSUED, "expires_at": EXPIRES}
    assert [point.alpha for point in from_points(found, **names).points] == [0.1, 0.02]
    with pytest.raises(CertificateError, match="nothing was certified"):
        from_points([], **names)


def test_times_are_written_in_utc() -> None:
    assert iso_time(0) == "1970-01-01T00:00:00Z"
    assert json.loads(sign(GOOD, KEY))["issued_at"] == iso_time(ISSUED)
