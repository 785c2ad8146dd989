"""Evidence in, typed claims out: pure, offline, fail closed (RFC 9334 words).

`verify` reads no clock, file or network. Each kind of policy accepts exactly one type of evidence; nothing turns a policy into
another. Knows nothing of gRPC, or of how a node makes its evidence.
"""

from __future__ import annotations

from collections.abc import Collection

from google.protobuf.message import DecodeError

from leanto_wire import development
from leanto_wire.claims import Claim, Claims
from leanto_wire.development import DevelopmentPolicy
from leanto_wire.errors import EvidenceError, SealError
from leanto_wire.keys import public_key
from leanto_wire.report_data import NONCE_BYTES, evidence_digest, report_data
from leanto_wire.seal import DIGEST_BYTES, PROTOCOL, SUITE
from leanto_wire.v1.private_compute_pb2 import EVIDENCE_TYPE_DEVELOPMENT, EvidenceResponse, KeyConfig

__all__ = ["Claim", "Claims", "DevelopmentPolicy", "verify"]

MAX_MODEL_ID_CHARACTERS = 256


def verify(
    evidence: EvidenceResponse, policy: DevelopmentPolicy, now_s: float, nonce: bytes, *, suites: Collection[int] = (SUITE,)
) -> Claims:
    """What `evidence` proves under `policy` at `now_s` (seconds since the epoch), asked for with `nonce` (32 bytes).

    `suites` are the numbers of those that the client accepts.

    Raises EvidenceError for anything that is not proven.
    """
    if type(policy) is not DevelopmentPolicy:
        raise EvidenceError("type", "no verifier belongs to this policy; use a DevelopmentPolicy that names its root")
    if evidence.type != EVIDENCE_TYPE_DEVELOPMENT:
        raise EvidenceError("type", "the node's evidence is not of the development type, the only one this policy accepts")
    if len(nonce) != NONCE_BYTES or evidence.nonce != nonce:
        raise EvidenceError("freshness", "it answers another nonce, so it may be old")
    development.verify_report(evidence.report, report_data(evidence.type, evidence.key_config, nonce), policy)
    config = _parse(evidence.key_config)
    _check_key(config, suites)
    _check_age(config, policy, now_s)
    _check_release(config, policy)
    return Claims(
        evidence_type="development",
        evidence_digest=evidence_digest(evidence.type, evidence.key_config),
        public_key=config.public_key,
        expires_s=config.expires_unix_ms / 1000,
        release_digest=config.release_digest,
        model_id=config.model_id,
        claims=development.claims(config),
        suite=config.suite,
    )


def _parse(raw: bytes) -> KeyConfig:
    try:
        return KeyConfig.FromString(raw)
    except DecodeError:
        raise EvidenceError("key", "its key configuration does not parse") from None


def _check_key(config: KeyConfig, suites: Collection[int]) -> None:
    if config.protocol != PROTOCOL or config.suite not in suites:
        ours = f"{PROTOCOL}, {' or '.join(map(str, suites))}"
        raise EvidenceError("key", f"the node speaks protocol {config.protocol}, suite {config.suite}; this client {ours}")
    try:
        public_key(config.public_key)
    except SealError as error:
        raise EvidenceError("key", str(error)) from None
    if not config.model_id.isprintable() or len(config.model_id) > MAX_MODEL_ID_CHARACTERS:
        raise EvidenceError("model", "its model name is not a name")


def _check_age(config: KeyConfig, policy: DevelopmentPolicy, now_s: float) -> None:
    left_s = config.expires_unix_ms / 1000 - now_s
    if left_s <= 0:
        raise EvidenceError("expiry", "its key has expired; check the clocks of both machines")
    if left_s > policy.max_lifetime_s:
        raise EvidenceError("expiry", f"its key lives for {left_s:.0f} s, longer than the {policy.max_lifetime_s:.0f} s the policy allows")


def _check_release(config: KeyConfig, policy: DevelopmentPolicy) -> None:
    if len(config.release_digest) != DIGEST_BYTES:
        raise EvidenceError("release", "its release digest is not a SHA-256 digest")
    if policy.releases is not None and config.release_digest not in policy.releases:
        raise EvidenceError("release", f"release {config.release_digest.hex()[:16]}… is not one the policy names")
