"""The key that evidence vouches for: protocol, age, release and log held against a policy's terms, and the claims about them."""

from __future__ import annotations

from collections.abc import Collection
from datetime import UTC, datetime

from google.protobuf.message import DecodeError

from leanto_wire.claims import Appraisal, Claim
from leanto_wire.errors import EvidenceError, SealError
from leanto_wire.keys import public_key
from leanto_wire.policies import Terms
from leanto_wire.seal import DIGEST_BYTES, PROTOCOL
from leanto_wire.v1.private_compute_pb2 import KeyConfig

MAX_MODEL_ID_CHARACTERS = 256
MAX_EXPIRY_MS = 253_402_300_799_000  # the last second of the year 9999, the last that can be shown


def read_key_config(raw: bytes, terms: Terms, now_s: float, suites: Collection[int]) -> KeyConfig:
    """The key configuration in `raw`. Raises EvidenceError unless it is one that `terms` allows at `now_s`."""
    try:
        config = KeyConfig.FromString(raw)
    except DecodeError:
        raise EvidenceError("key", "its key configuration does not parse") from None
    _check_key(config, suites)
    _check_age(config, terms, now_s)
    _check_release(config, terms)
    return config


def key_claims(config: KeyConfig, machine: Appraisal) -> tuple[Claim, ...]:
    """What a verified key configuration is worth, given what vouches for it."""
    expires = datetime.fromtimestamp(config.expires_unix_ms / 1000, UTC).isoformat(timespec="seconds")
    log = config.log_origin or "none"
    return (
        Claim(
            "key",
            f"X-Wing, expires {expires}",
            f"the answer can be read only by a holder of this key, which {machine.voucher} vouched for just now",
            f"that its holder keeps no copy of what it opens; {machine.limits}",
            machine.trusted_parties,
        ),
        Claim(
            "release",
            config.release_digest.hex(),
            f"{machine.voucher} says that this release is running (log: {log})",
            f"that it is what its makers say, or does what it says; {machine.limits}",
            machine.trusted_parties,
        ),
        Claim(
            "model",
            config.model_id,
            f"{machine.voucher} says that this model answers",
            f"that it does; {machine.limits}",
            machine.trusted_parties,
        ),
    )


def _check_key(config: KeyConfig, suites: Collection[int]) -> None:
    if config.protocol != PROTOCOL or config.suite not in suites:
        ours = f"{PROTOCOL}, {' or '.join(map(str, suites))}"
        raise EvidenceError("key", f"the node speaks protocol {config.protocol}, suite {config.suite}; this client {ours}")
    try:
        public_key(config.public_key)
    except SealError as error:
        raise EvidenceError("key", str(error)) from None
    for what, name in (("model", config.model_id), ("log", config.log_origin)):
        if not name.isprintable() or len(name) > MAX_MODEL_ID_CHARACTERS:
            raise EvidenceError(what, f"its {what} name is not a name")


def _check_age(config: KeyConfig, terms: Terms, now_s: float) -> None:
    left_s = config.expires_unix_ms / 1000 - now_s
    if left_s <= 0:
        raise EvidenceError("expiry", "its key has expired; check the clocks of both machines")
    if left_s > terms.max_lifetime_s or config.expires_unix_ms > MAX_EXPIRY_MS:
        raise EvidenceError("expiry", f"its key lives for {left_s:.0f} s, longer than the {terms.max_lifetime_s:.0f} s the policy allows")


def _check_release(config: KeyConfig, terms: Terms) -> None:
    if len(config.release_digest) != DIGEST_BYTES:
        raise EvidenceError("release", "its release digest is not a SHA-256 digest")
    if terms.releases is not None and config.release_digest not in terms.releases:
        raise EvidenceError("release", f"release {config.release_digest.hex()[:16]}… is not one the policy names")
    if terms.log_origin is not None and config.log_origin != terms.log_origin:
        raise EvidenceError("log", f"its release stands in another log than {terms.log_origin}")
