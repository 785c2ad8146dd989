"""The node's keys: fresh in memory, rotated with overlap, each request opened once. Nothing is ever written down.

Knows nothing of engines or of how an attester signs.
"""

from __future__ import annotations

import asyncio
import hashlib
import time
from collections.abc import Callable
from dataclasses import replace

from leanto_cloud.attesters.base import Attestation, Attester
from leanto_cloud.errors import Refused
from leanto_wire import seal
from leanto_wire.errors import SealError
from leanto_wire.keys import PrivateKey
from leanto_wire.report_data import NONCE_BYTES, evidence_digest, report_data
from leanto_wire.seal import PROTOCOL, SUITE, Binding, Sealed, Sealer
from leanto_wire.status import Refusal
from leanto_wire.v1.private_compute_pb2 import (
    ACCELERATOR_TYPE_NVIDIA,
    AcceleratorEvidence,
    Endorsement,
    EvidenceResponse,
    EvidenceType,
    KeyConfig,
    ReleaseProof,
    SealedRequest,
)

LIFETIME_S = 3600.0
REPLAYS_KEPT = 1 << 18  # encapsulations remembered for each key: 16 bytes each, so about 30 MiB at worst
KEYS_KEPT = 3
ATTESTING = 2  # reports made at once


class NodeKey:
    """One X-Wing key, what the evidence says of it, and the requests it has opened."""

    def __init__(
        self,
        evidence_type: EvidenceType.ValueType,
        release_digest: bytes,
        model_id: str,
        log_origin: str,
        *,
        expires_s: float,
        suite: int = SUITE,
    ) -> None:
        self._suite = suite
        self._private = PrivateKey.generate()
        self.expires_s = expires_s
        self.config = KeyConfig(
            protocol=PROTOCOL,
            suite=suite,
            public_key=self._private.public_bytes,
            expires_unix_ms=int(expires_s * 1000),
            release_digest=release_digest,
            model_id=model_id,
            log_origin=log_origin,
        ).SerializeToString(deterministic=True)
        self.digest = evidence_digest(evidence_type, self.config)
        self._binding = Binding(self.digest, release_digest)
        self._opened: set[bytes] = set()

    @property
    def worn_out(self) -> bool:
        """Whether it has opened as many requests as it can remember."""
        return len(self._opened) >= REPLAYS_KEPT

    def open(self, sealed: Sealed, token: bytes) -> tuple[bytes, Sealer]:
        """The message, and what seals the answer. Raises SealError, or Refused for a request it has opened before."""
        opened = seal.open_request(sealed, self._private, replace(self._binding, token=token), suite=self._suite)
        mark = hashlib.sha256(sealed.encapsulation).digest()[:16]
        if mark in self._opened:
            raise Refused(Refusal.REPLAYED)
        self._opened.add(mark)
        return opened


class Identity:
    """The node's current key and those before it that have not expired."""

    def __init__(
        self,
        attester: Attester,
        *,
        release_digest: bytes,
        model_id: str,
        log_origin: str = "",
        release_proof: ReleaseProof | None = None,
        lifetime_s: float = LIFETIME_S,
        suite: int = SUITE,
        now_s: Callable[[], float] = time.time,
    ) -> None:
        self._attester = attester
        self._release_digest = release_digest
        self._model_id = model_id
        self._log_origin = log_origin
        self._release_proof = release_proof
        self._lifetime_s = lifetime_s
        self._suite = suite
        self._now_s = now_s
        self._keys: list[NodeKey] = []
        self._attesting = asyncio.Semaphore(ATTESTING)

    def evidence(self, nonce: bytes) -> EvidenceResponse:
        """Evidence for the current key, bound to `nonce`. A key is offered for half its lifetime, so what a client caches stays good."""
        if len(nonce) != NONCE_BYTES:
            raise Refused(Refusal.BAD_NONCE)
        key, kind = self._current(), self._attester.evidence_type
        return self._response(key, nonce, self._attester.attest(report_data(kind, key.config, nonce)))

    async def evidence_aside(self, nonce: bytes) -> EvidenceResponse:
        """The same, while the loop goes on: hardware takes its time, and is asked by few at once."""
        if len(nonce) != NONCE_BYTES:
            raise Refused(Refusal.BAD_NONCE)
        key, kind = self._current(), self._attester.evidence_type
        async with self._attesting:
            attestation = await asyncio.to_thread(self._attester.attest, report_data(kind, key.config, nonce))
        return self._response(key, nonce, attestation)

    def _response(self, key: NodeKey, nonce: bytes, attestation: Attestation) -> EvidenceResponse:
        return EvidenceResponse(
            type=self._attester.evidence_type,
            key_config=key.config,
            nonce=nonce,
            report=attestation.report,
            endorsements=[Endorsement(name=name, value=value) for name, value in sorted(attestation.endorsements.items())],
            accelerators=[AcceleratorEvidence(type=ACCELERATOR_TYPE_NVIDIA, token=token) for token in attestation.nvidia_tokens],
            release_proof=self._release_proof,
        )

    def key_for(self, request: SealedRequest) -> NodeKey:
        """The key that `request` says it was sealed to. Raises Refused; nothing is opened."""
        if request.suite != self._suite:
            raise Refused(Refusal.SUITE)
        self._forget_expired()
        for key in self._keys:
            if key.digest == request.evidence_digest and not key.worn_out:
                return key
        raise Refused(Refusal.STALE_EVIDENCE)

    def open(self, request: SealedRequest) -> tuple[bytes, Sealer]:
        """The message of `request`, and what seals the answer. Raises Refused."""
        try:
            return self.key_for(request).open(Sealed(request.encapsulation, request.ciphertext), request.token)
        except SealError:
            raise Refused(Refusal.NOT_OPENED) from None

    def _current(self) -> NodeKey:
        now_s = self._now_s()
        self._forget_expired()
        if not self._keys or self._keys[-1].worn_out or self._keys[-1].expires_s - now_s < self._lifetime_s / 2:
            kind = self._attester.evidence_type
            named = (kind, self._release_digest, self._model_id, self._log_origin)
            self._keys.append(NodeKey(*named, expires_s=now_s + self._lifetime_s, suite=self._suite))
            del self._keys[:-KEYS_KEPT]
        return self._keys[-1]

    def _forget_expired(self) -> None:
        now_s = self._now_s()
        self._keys = [key for key in self._keys if key.expires_s > now_s]
