"""What it costs to believe a node: the first verification of each type of evidence, and each request after it.

`python -m benchmarks.evidence [--json] [--quick]`. Hardware types need the real samples in ../shared/data/private, and are left out
without them.
"""

from __future__ import annotations

import asyncio
import base64
import io
import os
import re
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from benchmarks.measure import Row, quantile, run_cli
from leanto.clock import Clock
from leanto.remote import RemoteTarget
from leanto.remote.call import Meter
from leanto.remote.sealed_session import SealedSession
from leanto_wire.development import DevelopmentPolicy, sign_report
from leanto_wire.evidence import Claims, nitro, sev_snp, tdx, verify
from leanto_wire.keys import PrivateKey
from leanto_wire.policies import NitroPolicy, SevSnpPolicy, TcbVersion, TdxPolicy
from leanto_wire.report_data import report_data
from leanto_wire.v1.private_compute_pb2 import EVIDENCE_TYPE_DEVELOPMENT, EvidenceResponse, KeyConfig

DATA = Path(os.environ.get("LEANTO_DATA", Path(__file__).resolve().parents[2] / "shared" / "data")) / "private"
NONCE = bytes(32)


def measure(quick: bool) -> list[Row]:
    """All rows."""
    calls = 50 if quick else 500
    now_s = time.time()
    root = Ed25519PrivateKey.generate()
    policy = DevelopmentPolicy(root.public_key().public_bytes_raw())
    evidence = development(root, now_s)
    checks = {"development": lambda: verify(evidence, policy, now_s, NONCE), **(dict(hardware()) if DATA.is_dir() else {})}
    rows = [_timed(f"verify {name}", check, calls) for name, check in checks.items()]
    return [*rows, asyncio.run(cached(policy.root, verify(evidence, policy, now_s, NONCE), 20 * calls))]


def development(root: Ed25519PrivateKey, now_s: float) -> EvidenceResponse:
    """Evidence as a development node gives it."""
    config = KeyConfig(
        protocol=1,
        suite=1,
        public_key=PrivateKey.generate().public_bytes,
        expires_unix_ms=int((now_s + 3600) * 1000),
        release_digest=bytes(32),
        model_id="model@build",
    ).SerializeToString()
    report = sign_report(report_data(EVIDENCE_TYPE_DEVELOPMENT, config, NONCE), root)
    return EvidenceResponse(type=EVIDENCE_TYPE_DEVELOPMENT, key_config=config, nonce=NONCE, report=report)


def hardware() -> Iterator[tuple[str, Callable[[], object]]]:
    """Real evidence at its own time, without the binding to our key, which is one comparison more."""
    import cbor2

    report = bytes.fromhex((DATA / "sev" / "virtee_report_milan.hex").read_text())
    ask, ark = re.findall(rb"-----BEGIN.*?-----END CERTIFICATE-----", (DATA / "sev" / "ask_ark_milan.pem").read_bytes(), re.DOTALL)
    chain = {"vcek": (DATA / "sev" / "virtee_vcek_milan.der").read_bytes(), "ask": ask, "ark": ark}
    snp = SevSnpPolicy(frozenset({report[0x90:0xC0]}), TcbVersion(0, 0, 0, 0))
    yield "SEV-SNP (Milan)", lambda: sev_snp.verify_report(report, chain, snp, time.time())

    quote = (DATA / "tdx" / "dcapqvl_tdx_quote").read_bytes()
    collateral = {"collateral": (DATA / "tdx" / "dcapqvl_tdx_quote_collateral.json").read_bytes()}
    domain = TdxPolicy(frozenset({quote[48 + 136 : 48 + 184]}))
    its_time_s = datetime(2025, 7, 1, tzinfo=UTC).timestamp()
    yield "TDX", lambda: tdx.verify_quote(quote, collateral, domain, its_time_s)

    raw = (DATA / "nitro" / "nsm_qvl_nitro_attestation.bin").read_bytes()
    stream = io.BytesIO(raw[raw.index(b"\x84\x44\xa1\x01\x38\x22") :])
    content = cbor2.loads(cbor2.load(stream)[2])
    document = stream.getvalue()[: stream.tell()]
    enclave = NitroPolicy(frozenset({content["pcrs"][0]}))
    yield "Nitro", lambda: nitro.verify_document(document, enclave, content["timestamp"] / 1000)


async def cached(root: bytes, claims: Claims, calls: int) -> Row:
    """What a request costs whose node has been believed before."""
    session = SealedSession(RemoteTarget("127.0.0.1:1", base64.b64encode(root).decode()), "ipv4:127.0.0.1:1", Clock())
    session.claims = claims
    figures = []
    for _ in range(calls):
        start = time.perf_counter_ns()
        await session.verified(0.0, Meter())
        figures.append((time.perf_counter_ns() - start) / 1000)
    await session.close()
    return {"what": "each request after it", "unit": "µs", "first": None, "p50": quantile(figures, 0.5), "p99": quantile(figures, 0.99)}


def _timed(name: str, call: Callable[[], object], calls: int) -> Row:
    figures = []
    for _ in range(calls + 1):
        start = time.perf_counter_ns()
        call()
        figures.append((time.perf_counter_ns() - start) / 1000)
    first, *rest = figures  # the first loads what the verifier needs
    return {"what": name, "unit": "µs", "first": first, "p50": quantile(rest, 0.5), "p99": quantile(rest, 0.99)}


if __name__ == "__main__":
    run_cli("evidence", measure)
