"""A risk certificate: a threshold below which answers go to the cloud, bound to one edge build, one cloud model and one task.

Signed with Ed25519 over canonical JSON and verified against a pinned public key. Whatever is wrong with one, it counts as none, and the
reason is told. Knows nothing of how a threshold is found: see `selective_risk`.
"""

from __future__ import annotations

import base64
import hashlib
import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from datetime import UTC, datetime
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from leanto.certificates.agreement import EVENTS
from leanto.decision import Promise
from leanto.errors import CertificateError

if TYPE_CHECKING:
    from leanto.certificates.selective_risk import Certified

FORMAT = 2
SKEW_S = 300.0  # how far this clock may be behind the issuer's
_LABEL = b"leanto risk certificate\x00"
_LIMIT_CHARS = 64 << 10


@dataclass(frozen=True, slots=True)
class Point:
    """Answers with score ≥ `threshold` are a case of the certificate's event with probability ≤ `alpha`; `kept_share` of all have it,
    and `bound` is the upper bound that was measured."""

    alpha: float
    threshold: float
    kept_share: float
    bound: float


@dataclass(frozen=True, slots=True)
class Validity:
    """Whether a certificate holds here and now; false with the `reason` why not."""

    reason: str = ""

    def __bool__(self) -> bool:
        return not self.reason


@dataclass(frozen=True, slots=True)
class Certificate:
    """At confidence 1 − `delta`, from `n` pairs, each of `points` holds (the first is the promise, the others are stricter).

    `build` is the hash of the edge build, `score` names what was compared with the threshold, and `event` what was counted (see
    `agreement.EVENTS`); times are seconds since the epoch.
    """

    task: str
    build: str
    cloud_model: str
    score: str
    event: str
    delta: float
    n: int
    points: tuple[Point, ...]
    issued_at: float
    expires_at: float

    def __post_init__(self) -> None:
        """Raise CertificateError for a value that no certificate can have."""
        names = (self.task, self.build, self.cloud_model, self.score)
        if not all(isinstance(name, str) and name and name.isprintable() for name in names):
            raise CertificateError("a certificate names its task, build, cloud model and score, each in one printable line")
        if self.event not in EVENTS:
            raise CertificateError(f"a certificate bounds one of these: {', '.join(EVENTS)}")
        shares = [self.delta, *(value for point in self.points for value in (point.alpha, point.kept_share, point.bound))]
        if not self.points or not all(_is_number(value) and 0 < value <= 1 for value in shares):
            raise CertificateError("a certificate has at least one point, with alpha, delta, kept share and bound above 0 and up to 1")
        if not all(_is_number(point.threshold) and 0 <= point.threshold <= 1 for point in self.points):
            raise CertificateError("the threshold of a certificate lies from 0 to 1")
        if any(later.alpha >= point.alpha or later.threshold < point.threshold for point, later in pairwise(self.points)):
            raise CertificateError("each further point of a certificate is stricter than the one before")
        if any(point.bound > point.alpha for point in self.points) or type(self.n) is not int or self.n < 1:
            raise CertificateError("a certificate's bound is above its alpha, or it was made from no pairs")
        if not (_is_number(self.issued_at) and _is_number(self.expires_at) and self.issued_at < self.expires_at):
            raise CertificateError("a certificate expires after it is issued")

    @property
    def threshold(self) -> float:
        """That of the promise."""
        return self.points[0].threshold

    @property
    def alpha(self) -> float:
        """The risk promised."""
        return self.points[0].alpha

    def valid_for(self, build: str, cloud_model: str | None, task: str, now: float, *, score: str) -> Validity:
        """Whether it speaks of this build, cloud model, task and score (see `score_name`), and now (seconds since the epoch) is its time.

        A build hash does not cover the confidence model, so the score must be the same too.
        """
        asked = {"build": build, "cloud model": cloud_model, "task": task, "score": score}
        for (what, theirs), mine in zip(asked.items(), (self.build, self.cloud_model, self.task, self.score), strict=True):
            if mine != theirs:
                return Validity(f"it is for the {what} {mine!r:.42}, not {theirs!r:.42}")
        if not math.isfinite(now):
            return Validity("this device does not know the time")
        if now < self.issued_at - SKEW_S:
            return Validity(f"it was issued at {iso_time(self.issued_at)}, which is still to come: set the clock")
        if now >= self.expires_at:
            return Validity(f"it expired at {iso_time(self.expires_at)}: certify again")
        return Validity()


def from_points(found: Sequence[Certified], **names: Any) -> Certificate:
    """The certificate of what `selective_risk.certify` found at one alpha after the other, loosest first; `names` are the other fields."""
    points: list[Point] = []
    for one in found:
        if not points or (one.alpha < points[-1].alpha and one.threshold >= points[-1].threshold):
            points.append(Point(one.alpha, one.threshold, one.kept_share, one.bound))
    if not points:
        raise CertificateError("nothing was certified: lower the promise or label more pairs")
    return Certificate(delta=found[0].delta, n=found[0].n, points=tuple(points), **names)


def sign(certificate: Certificate, key: Ed25519PrivateKey) -> str:
    """The certificate as one line of JSON with its signature."""
    body = _body(certificate)
    return _canonical({**body, "signature": base64.b64encode(key.sign(_LABEL + _canonical(body).encode())).decode()})


def verify(text: str, public_key: str) -> Certificate:
    """The certificate in `text` if the pinned key (base64 of an Ed25519 public key) signed it. Raises CertificateError."""
    try:
        body = json.loads(text) if len(text) <= _LIMIT_CHARS else None
    except (ValueError, RecursionError):
        body = None
    if not isinstance(body, dict) or body.get("format") != FORMAT:
        raise CertificateError(f"it is not a risk certificate of format {FORMAT}")
    signature = body.pop("signature", None)
    if not isinstance(signature, str):
        raise CertificateError("it is not signed")
    try:
        signed = _LABEL + _canonical(body).encode()
        pinned = Ed25519PublicKey.from_public_bytes(base64.b64decode(public_key, validate=True))
        pinned.verify(base64.b64decode(signature, validate=True), signed)
    except (InvalidSignature, ValueError, RecursionError):
        raise CertificateError("it is not signed by the pinned key, or was changed since") from None
    return _read(body)


def usable(
    text: str, public_key: str, build: str, cloud_model: str | None, task: str, now: float, *, score: str
) -> tuple[Certificate | None, str]:
    """The certificate in `text` if it is signed, in time and speaks of just this; otherwise none, and the reason. Never raises."""
    try:
        certificate = verify(text, public_key)
    except CertificateError as error:
        return None, str(error)
    valid = certificate.valid_for(build, cloud_model, task, now, score=score)
    return (certificate, "") if valid else (None, valid.reason)


class Certificates:
    """Those of a policy and those that a model carries, verified once. What is wrong with one is told when it is asked for, not raised."""

    def __init__(self, files: Sequence[str | Path], carried: Sequence[Mapping[str, Any]], public_key: str | None) -> None:
        self._held: list[Certificate] = []
        self._faults: list[str] = []
        for number, one in enumerate(carried, 1):
            self._take(f"the model's certificate {number}", partial(json.dumps, one), public_key)
        for file in files:
            self._take(Path(file).name, partial(Path(file).read_text, encoding="utf-8"), public_key)

    def _take(self, name: str, read: Callable[[], str], public_key: str | None) -> None:
        try:
            self._held.append(verify(read(), public_key or ""))
        except CertificateError as error:
            self._faults.append(f"{name}: {error}")
        except (OSError, UnicodeDecodeError):
            self._faults.append(f"{name}: it cannot be read")

    def promise(self, build: str, cloud_model: str | None, task: str, now: float, *, score: str, alarmed: Callable[[str], bool]) -> Promise:
        """The strictest of those that hold, or none, and why. `alarmed` tells of an audit by its name; whatever it was raised on,
        the next stricter threshold stands."""
        reasons = list(self._faults)
        found = []
        for certificate in self._held:
            valid = certificate.valid_for(build, cloud_model, task, now, score=score)
            if valid:
                found.append(_standing(certificate, alarmed))
            else:
                reasons.append(valid.reason)
        if not found:
            return Promise(why_not="; ".join(reasons) or "there is none", named=bool(reasons))
        return max(found, key=lambda promise: (promise.broken, promise.threshold or 0.0))


def _standing(certificate: Certificate, alarmed: Callable[[str], bool]) -> Promise:
    """What the audits leave of it."""
    name, threshold, alarms = hashlib.sha256(_canonical(_body(certificate)).encode()).hexdigest()[:16], certificate.points[0].threshold, 0
    while alarmed(audit := f"{certificate.task} {name} {threshold!r}"):
        alarms, stricter = alarms + 1, tighten(certificate, threshold)
        if stricter is None:
            return Promise(why_not="the audit found more than was promised; certify again", named=True, broken=True, alarms=alarms)
        threshold = stricter
    alpha, delta, event = certificate.alpha, certificate.delta, certificate.event
    return Promise(threshold, "", named=True, event=event, alpha=alpha, delta=delta, audit=audit, alarms=alarms)


def tighten(certificate: Certificate, threshold: float) -> float | None:
    """What an alarm at `threshold` leaves: the next stricter certified threshold, or None for cloud-only."""
    return min((point.threshold for point in certificate.points if point.threshold > threshold), default=None)


def iso_time(at: float) -> str:
    """Seconds since the epoch as UTC."""
    return datetime.fromtimestamp(at, UTC).isoformat().replace("+00:00", "Z")


def _body(certificate: Certificate) -> dict[str, Any]:
    return {
        **asdict(certificate),
        "format": FORMAT,
        "issued_at": iso_time(certificate.issued_at),
        "expires_at": iso_time(certificate.expires_at),
    }


def _read(body: dict[str, Any]) -> Certificate:
    """The certificate of a body whose signature was verified; the signer may still have written nonsense."""
    try:
        values = {field.name: body[field.name] for field in fields(Certificate)}
        values["points"] = tuple(Point(**point) for point in values["points"])
        for name in ("issued_at", "expires_at"):
            values[name] = datetime.fromisoformat(values[name].removesuffix("Z") + "+00:00").timestamp()
        return Certificate(**values)
    except (AttributeError, KeyError, TypeError, ValueError, OverflowError):
        raise CertificateError("it does not hold what a risk certificate holds") from None


def _canonical(body: Mapping[str, Any]) -> str:
    """Sorted keys, no spaces, ASCII. Raises ValueError for NaN and infinities."""
    return json.dumps(body, sort_keys=True, separators=(",", ":"), allow_nan=False)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
