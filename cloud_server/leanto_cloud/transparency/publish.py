"""From a statement to a proof that a node can show: append it, ask the witnesses, and put the proof together."""

from __future__ import annotations

import time
from collections.abc import Iterable

import httpx

from leanto_cloud.errors import CloudError
from leanto_cloud.transparency.store import LogStore
from leanto_cloud.transparency.witness import request_body
from leanto_wire.errors import LogError
from leanto_wire.log.merkle import consistency_proof, inclusion_proof
from leanto_wire.log.note import Note, parse_signatures
from leanto_wire.v1.private_compute_pb2 import ReleaseProof

TIMEOUT_S = 10.0
ATTEMPTS = 3


def publish(statement: bytes, log: LogStore, witnesses: Iterable[str]) -> ReleaseProof:
    """The statement's proof under the newest checkpoint, cosigned by the witnesses at these addresses. Raises CloudError."""
    index, checkpoint = log.append(statement)
    _, note = log.checkpoint()
    assert note is not None  # a log that was just appended to has a checkpoint
    signatures = [one for address in witnesses for one in _cosign(address, log, checkpoint.size, note)]
    note = log.cosign(signatures)
    proof = inclusion_proof(log.subtrees(checkpoint.size), index, checkpoint.size)
    return ReleaseProof(release=statement, index=index, inclusion=proof, checkpoint=str(note).encode())


def _cosign(address: str, log: LogStore, size: int, note: Note) -> tuple[tuple[str, bytes, bytes], ...]:
    """A witness's signatures. It is first asked as if it had seen nothing, and says otherwise."""
    old = 0
    with httpx.Client(timeout=TIMEOUT_S, trust_env=False, follow_redirects=False) as http:
        for attempt in range(ATTEMPTS):
            proof = consistency_proof(log.subtrees(size), old, size) if 0 < old < size else []
            try:
                answer = http.post(f"{address.rstrip('/')}/add-checkpoint", content=request_body(old, proof, note))
            except httpx.HTTPError as error:
                raise CloudError(f"the witness at {address} cannot be reached ({type(error).__name__})") from None
            if answer.status_code == 409 and answer.text.strip().isdecimal() and 0 < int(answer.text.strip()[:20]) <= size:
                old = int(answer.text)
                time.sleep(0.1 * attempt)  # somebody else may be appending
                continue
            if answer.status_code != 200:
                raise CloudError(f"the witness at {address} does not cosign (status {answer.status_code})")
            try:
                return parse_signatures(answer.text)
            except LogError as error:
                raise CloudError(f"the witness at {address} answers with no signature: {error}") from None
    raise CloudError(f"the witness at {address} has seen a larger log, or another one")
