"""Real evidence from ../shared/data/private, taken out of the files that it lies in. PROVENANCE.tsv there says where it is from."""

from __future__ import annotations

import base64
import io
import json
import re
from pathlib import Path

import cbor2

_BLOCK = re.compile(r"-----BEGIN ([A-Z0-9 ]+)-----(.*?)-----END \1-----", re.DOTALL)


def blocks(path: Path, label: str) -> list[bytes]:
    """Each PEM block with this label, as bytes."""
    return [base64.b64decode("".join(body.split())) for name, body in _BLOCK.findall(path.read_text()) if name == label]


def amd_chain(sev: Path, product: str) -> dict[str, bytes]:
    """ASK and ARK of "milan", "genoa" or "turin_vcek"."""
    ask, ark = blocks(sev / f"ask_ark_{product}.pem", "CERTIFICATE")
    return {"ask": ask, "ark": ark}


def snp(data: Path, name: str) -> tuple[bytes, dict[str, bytes]]:
    """A report and the endorsements that belong to it."""
    sev, milan = data / "sev", amd_chain(data / "sev", "milan")
    if name == "go-sev-guest (DEBUG)":
        return (sev / "gosev_attestation.bin").read_bytes(), {"vcek": (sev / "gosev_vcek.testcer").read_bytes(), **milan}
    if name == "virtee Milan":
        return bytes.fromhex((sev / "virtee_report_milan.hex").read_text()), {"vcek": (sev / "virtee_vcek_milan.der").read_bytes(), **milan}
    if name == "dstack Milan":
        raw = (sev / "dstack_sev_snp_attestation.bin").read_bytes()
        return raw[4:1188], {"vcek": (sev / "dstack_sev_snp_vcek.pem").read_bytes(), **milan}
    if name == "Azure Milan":
        sample = json.loads((sev / "azure_kms_snp.json").read_text())
        chain = _BLOCK.findall(base64.b64decode(sample["endorsements"]).decode())
        names = ("vcek", "ask", "ark")
        return base64.b64decode(sample["evidence"]), {
            name: base64.b64decode("".join(body.split())) for name, (_, body) in zip(names, chain, strict=True)
        }
    if name == "Azure Genoa":
        (wrapped,) = blocks(data / "openpcc" / "azure_sevsnp_report.txt", "REPORT")
        vcek = blocks(data / "openpcc" / "sev_certificates.txt", "CERTIFICATE")[-1]
        return wrapped[32:1216], {"vcek": vcek, **amd_chain(sev, "genoa")}
    (report,) = blocks(data / "openpcc" / "gce_sevsnp_report.txt", "REPORT")
    return report, milan


def nitro(data: Path, name: str) -> bytes:
    """A document, without the length before it and the padding behind it."""
    raw = (data / "nitro" / name).read_bytes()
    stream = io.BytesIO(raw[raw.index(b"\x84\x44\xa1\x01\x38\x22") :])
    cbor2.load(stream)
    return stream.getvalue()[: stream.tell()]
