"""Limits on what evidence may weigh, checked before anything of it is parsed, and the names its endorsements may have."""

from __future__ import annotations

from collections.abc import Mapping

from leanto_wire.errors import EvidenceError
from leanto_wire.v1.private_compute_pb2 import EvidenceResponse

MAX_KEY_CONFIG_BYTES = 4096
MAX_REPORT_BYTES = 32 * 1024
MAX_ENDORSEMENTS = 8
MAX_ENDORSEMENT_BYTES = 128 * 1024
MAX_DEVICES = 16
MAX_TOKEN_BYTES = 128 * 1024
ENDORSEMENTS = frozenset({"vcek", "vlek", "ask", "ark", "crl", "collateral", "nvidia"})


def check_bounds(evidence: EvidenceResponse) -> None:
    """Raise EvidenceError for evidence that is too big, or that holds an endorsement twice or one that nobody knows."""
    _check_size("its key configuration", evidence.key_config, MAX_KEY_CONFIG_BYTES)
    _check_size("its report", evidence.report, MAX_REPORT_BYTES)
    names = [endorsement.name for endorsement in evidence.endorsements]
    if len(names) > MAX_ENDORSEMENTS or len(set(names)) != len(names) or not ENDORSEMENTS.issuperset(names):
        raise EvidenceError("endorsements", "its endorsements are too many, repeated, or of a name that docs/wire.md does not list")
    for endorsement in evidence.endorsements:
        _check_size(f"its endorsement {endorsement.name}", endorsement.value, MAX_ENDORSEMENT_BYTES)
    if len(evidence.accelerators) > MAX_DEVICES:
        raise EvidenceError("endorsements", f"it holds evidence of more than {MAX_DEVICES} accelerators")
    for accelerator in evidence.accelerators:
        _check_size("its accelerator evidence", accelerator.token, MAX_TOKEN_BYTES)


def endorsements_of(evidence: EvidenceResponse) -> Mapping[str, bytes]:
    """Its endorsements by name."""
    return {endorsement.name: endorsement.value for endorsement in evidence.endorsements}


def need(endorsements: Mapping[str, bytes], name: str) -> bytes:
    """The endorsement called `name`. Raises EvidenceError if it was not sent."""
    if name not in endorsements:
        raise EvidenceError("endorsements", f"it comes without the endorsement {name!r}")
    return endorsements[name]


def check_binding(found: bytes, report_data: bytes) -> None:
    """Raise EvidenceError unless a report's own data is the hash of this key configuration and nonce."""
    if found != report_data:
        raise EvidenceError("binding", "its report is for another key or another nonce")


def _check_size(what: str, value: bytes, most: int) -> None:
    if len(value) > most:
        raise EvidenceError("size", f"{what} has {len(value)} bytes, more than the {most} that are read")
