"""Hardware that we made up: certificates, reports and tokens under roots of our own, which only a policy that pins them accepts."""

from __future__ import annotations

import base64
import hashlib
import json
import struct
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cache
from typing import Any

import cbor2
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID

from leanto_cloud.attesters.base import Attestation
from leanto_wire.evidence.certificates import fingerprint
from leanto_wire.keys import PrivateKey
from leanto_wire.policies import NitroPolicy, NvidiaRequirement, SevSnpPolicy, TcbVersion
from leanto_wire.report_data import accelerator_nonce, report_data
from leanto_wire.v1.private_compute_pb2 import (
    ACCELERATOR_TYPE_NVIDIA,
    EVIDENCE_TYPE_NITRO,
    EVIDENCE_TYPE_SEV_SNP,
    AcceleratorEvidence,
    Endorsement,
    EvidenceResponse,
    EvidenceType,
    KeyConfig,
)

NOW_S = 1_800_000_000.0
NONCE = bytes(range(32))
RELEASE = b"r" * 32
PUBLIC = PrivateKey.generate().public_bytes
MEASUREMENT = b"m" * 48
TCB = TcbVersion(bootloader=4, tee=1, snp=23, microcode=213)
CHIP = bytes(range(64))
START, END = datetime(2020, 1, 1, tzinfo=UTC), datetime(2040, 1, 1, tzinfo=UTC)

Key = ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey


@dataclass(frozen=True)
class Signer:
    """A private key and its certificate."""

    key: Key
    certificate: x509.Certificate

    @property
    def der(self) -> bytes:
        return self.certificate.public_bytes(Encoding.DER)

    @property
    def pin(self) -> bytes:
        return fingerprint(self.certificate)

    def sign(self, data: bytes) -> bytes:
        """ECDSA with SHA-384: r ‖ s, 96 bytes."""
        assert isinstance(self.key, ec.EllipticCurvePrivateKey)
        r, s = decode_dss_signature(self.key.sign(data, ec.ECDSA(hashes.SHA384())))
        return r.to_bytes(48, "big") + s.to_bytes(48, "big")


def certify(
    name: str,
    issuer: Signer | None = None,
    *,
    key: Key | None = None,
    ca: bool = True,
    end: datetime = END,
    extensions: dict[str, bytes] | None = None,
) -> Signer:
    """A certificate of `issuer`, or a self-signed one."""
    key = key or ec.generate_private_key(ec.SECP384R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer.certificate.subject if issuer else subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(START)
        .not_valid_after(end)
        .add_extension(x509.BasicConstraints(ca=ca, path_length=None), critical=True)
    )
    for oid, value in (extensions or {}).items():
        builder = builder.add_extension(x509.UnrecognizedExtension(x509.ObjectIdentifier(oid), value), critical=False)
    signer = issuer.key if issuer else key
    if isinstance(signer, rsa.RSAPrivateKey):
        return Signer(key, builder.sign(signer, hashes.SHA384(), rsa_padding=_pss()))
    return Signer(key, builder.sign(signer, hashes.SHA384()))


def _pss() -> padding.PSS:
    return padding.PSS(padding.MGF1(hashes.SHA384()), 48)


def key_config(**changes: Any) -> bytes:
    """A key configuration that is as it should be, but for `changes`."""
    fields: dict[str, Any] = {"protocol": 1, "suite": 1, "public_key": PUBLIC, "expires_unix_ms": int((NOW_S + 3600) * 1000)}
    fields |= {"release_digest": RELEASE, "model_id": "pocket-large@abc"} | changes
    return KeyConfig(**fields).SerializeToString(deterministic=True)


def respond(
    kind: EvidenceType.ValueType, attestation: Attestation, *, config: bytes | None = None, nonce: bytes = NONCE
) -> EvidenceResponse:
    """The message that carries an attestation."""
    return EvidenceResponse(
        type=kind,
        key_config=config or key_config(),
        nonce=nonce,
        report=attestation.report,
        endorsements=[Endorsement(name=name, value=value) for name, value in attestation.endorsements.items()],
        accelerators=[AcceleratorEvidence(type=ACCELERATOR_TYPE_NVIDIA, token=token) for token in attestation.nvidia_tokens],
    )


@cache
def amd_root() -> Signer:
    """A root like AMD's: RSA, PSS."""
    return certify("ARK-Synthetic", key=rsa.generate_private_key(public_exponent=65537, key_size=2048))


def amd_extensions(tcb: TcbVersion = TCB, chip: bytes = CHIP, **_: object) -> dict[str, bytes]:
    """What a VCEK's certificate says of its chip."""
    numbers = {"3.1": tcb.bootloader, "3.2": tcb.tee, "3.3": tcb.snp, "3.8": tcb.microcode}
    written = {f"1.3.6.1.4.1.3704.1.{oid}": _integer(value) for oid, value in numbers.items()}
    return written | {"1.3.6.1.4.1.3704.1.4": chip}


def _integer(value: int) -> bytes:
    return bytes((2, 1, value)) if value < 128 else bytes((2, 2, 0, value))


@dataclass(frozen=True)
class SnpMachine:
    """A processor of our own make. `fields` change what its reports say, each by its offset."""

    ask: Signer
    vcek: Signer
    root: Signer
    evidence_type: EvidenceType.ValueType = EVIDENCE_TYPE_SEV_SNP
    fields: dict[int, bytes] = field(default_factory=dict)
    nvidia: NvidiaService | None = None

    @classmethod
    def make(cls, *, root: Signer | None = None, tcb: TcbVersion = TCB, chip: bytes = CHIP, **more: Any) -> SnpMachine:
        root = root or amd_root()
        ask = certify("SEV-Synthetic", root)
        return cls(ask, certify("SEV-VCEK", ask, ca=False, extensions=amd_extensions(tcb, chip)), root, **more)

    def report(self, data: bytes) -> bytes:
        tcb = bytes((TCB.bootloader, TCB.tee, 0, 0, 0, 0, TCB.snp, TCB.microcode))
        raw = bytearray(0x2A0)
        fields = {0: struct.pack("<IIQ", 3, 0, 0x30000), 0x34: struct.pack("<I", 1), 0x50: data, 0x90: MEASUREMENT, 0x1A0: CHIP}
        fields |= {0x38: tcb, 0x180: tcb, 0x1E0: tcb, 0x1F0: tcb, 0x188: b"\x19\x01\x01"} | self.fields
        for offset, value in fields.items():
            raw[offset : offset + len(value)] = value
        signature = self.vcek.sign(bytes(raw))
        r, s = signature[:48][::-1], signature[48:][::-1]
        return bytes(raw) + r + bytes(24) + s + bytes(24) + bytes(368)

    def attest(self, data: bytes) -> Attestation:
        endorsements = {"vcek": self.vcek.der, "ask": self.ask.der, "ark": self.root.der}
        if self.nvidia is None:
            return Attestation(self.report(data), endorsements)
        tokens = (self.nvidia.bundle(accelerator_nonce(data)),)
        return Attestation(self.report(data), endorsements | {"nvidia": self.nvidia.chain}, tokens)

    def policy(self, **changes: Any) -> SevSnpPolicy:
        asked: dict[str, Any] = {"measurements": frozenset({MEASUREMENT}), "minimum_tcb": TCB, "roots": frozenset({self.root.pin})}
        return SevSnpPolicy(**asked | changes)

    def evidence(self, *, config: bytes | None = None, nonce: bytes = NONCE) -> EvidenceResponse:
        config = config or key_config()
        return respond(self.evidence_type, self.attest(report_data(self.evidence_type, config, nonce)), config=config, nonce=nonce)


def revocation_list(root: Signer, *revoked: Signer, end: datetime = END) -> bytes:
    """A list in DER that names `revoked`, signed by `root`."""
    builder = x509.CertificateRevocationListBuilder().issuer_name(root.certificate.subject).last_update(START).next_update(end)
    for signer in revoked:
        entry = x509.RevokedCertificateBuilder().serial_number(signer.certificate.serial_number).revocation_date(START).build()
        builder = builder.add_revoked_certificate(entry)
    assert isinstance(root.key, rsa.RSAPrivateKey)
    return builder.sign(root.key, hashes.SHA384(), rsa_padding=_pss()).public_bytes(Encoding.DER)


@dataclass(frozen=True)
class NitroMachine:
    """An enclave host of our own make. `changes` replace fields of its documents."""

    root: Signer
    middle: Signer
    leaf: Signer
    evidence_type: EvidenceType.ValueType = EVIDENCE_TYPE_NITRO
    changes: dict[str, Any] = field(default_factory=dict)
    protected: bytes = cbor2.dumps({1: -35})

    @classmethod
    def make(cls, *, end: datetime = END, **more: Any) -> NitroMachine:
        root = certify("aws.nitro-enclaves")
        middle = certify("zonal", root)
        return cls(root, middle, certify("i-1-enc1", middle, ca=False, end=end), **more)

    def attest(self, data: bytes) -> Attestation:
        content: dict[str, Any] = {"module_id": "i-1-enc1", "digest": "SHA384", "timestamp": int(NOW_S * 1000)}
        content |= {"pcrs": dict.fromkeys(range(9), MEASUREMENT), "certificate": self.leaf.der}
        content |= {"cabundle": [self.root.der, self.middle.der], "public_key": None, "user_data": data, "nonce": None} | self.changes
        payload = cbor2.dumps(content)
        signed = cbor2.dumps(["Signature1", self.protected, b"", payload])
        return Attestation(cbor2.dumps([self.protected, {}, payload, self.leaf.sign(signed)]))

    def policy(self, **changes: Any) -> NitroPolicy:
        return NitroPolicy(**{"pcr0": frozenset({MEASUREMENT}), "roots": frozenset({self.root.pin})} | changes)

    def evidence(self, *, config: bytes | None = None, nonce: bytes = NONCE) -> EvidenceResponse:
        config = config or key_config()
        return respond(self.evidence_type, self.attest(report_data(self.evidence_type, config, nonce)), config=config, nonce=nonce)


@dataclass(frozen=True)
class NvidiaService:
    """An attestation service of our own make. `changes` replace claims of its tokens on each GPU, `overall` those of the overall one."""

    root: Signer
    signer: Signer
    devices: int = 1
    changes: dict[str, Any] = field(default_factory=dict)
    overall: dict[str, Any] = field(default_factory=dict)
    header: dict[str, Any] = field(default_factory=lambda: {"alg": "ES384", "kid": "synthetic"})

    @classmethod
    def make(cls, **more: Any) -> NvidiaService:
        root = certify("Attestation CA")
        return cls(root, certify("Attestation Service", root, ca=False), **more)

    @property
    def chain(self) -> bytes:
        return b"".join(each.certificate.public_bytes(Encoding.PEM) for each in (self.signer, self.root))

    def requirement(self, **more: Any) -> NvidiaRequirement:
        return NvidiaRequirement(frozenset({self.root.pin}), **more)

    def token(self, claims: dict[str, Any]) -> str:
        times = {"iat": int(NOW_S) - 3 * 365 * 86400, "nbf": int(NOW_S) - 3 * 365 * 86400, "exp": int(NOW_S) + 600}
        signed = ".".join(map(_encode, (json.dumps(self.header).encode(), json.dumps(times | claims).encode())))
        signature = b"" if self.header["alg"] == "none" else self.signer.sign(signed.encode())
        return f"{signed}.{_encode(signature)}"

    def bundle(self, nonce: bytes) -> bytes:
        tokens = {}
        for number in range(self.devices):
            tokens[f"GPU-{number}"] = self.token(gpu_claims(nonce) | {"ueid": str(number)} | self.changes)
        digests = {name: ["DIGEST", ["SHA256", hashlib.sha256(token.encode()).hexdigest()]] for name, token in tokens.items()}
        overall = {"eat_nonce": nonce.hex(), "x-nvidia-overall-att-result": True, "submods": digests} | self.overall
        return json.dumps([["JWT", self.token(overall)], tokens]).encode()


def gpu_claims(nonce: bytes) -> dict[str, Any]:
    """What NVIDIA's service says of a GPU that is as it should be (claims version 3.0)."""
    from leanto_wire.evidence.nvidia import _CHAINS, _TRUE

    status = {"x-nvidia-cert-status": "valid", "x-nvidia-cert-ocsp-status": "good"}
    claims: dict[str, Any] = {"eat_nonce": nonce.hex(), "dbgstat": "disabled", "measres": "success", "hwmodel": "GH100"}
    return claims | dict.fromkeys(_TRUE, True) | dict.fromkeys(_CHAINS, status)


def _encode(part: bytes) -> str:
    return base64.urlsafe_b64encode(part).rstrip(b"=").decode()
