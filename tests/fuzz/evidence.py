"""Evidence of every type, signed where a dishonest machine could sign it: nothing but EvidenceError comes of it.

The same case changes the same places, of keys and certificates that are new in each process.
"""

from __future__ import annotations

import json
from functools import cache
from hashlib import sha256
from random import Random
from typing import Any

import cbor2
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from google.protobuf.message import DecodeError

from data_folder import DATA
from fuzz.changes import changed_json, changed_message, changed_number, drawn, fixed, json_of, one_of
from fuzz.target import Target
from hardware import NONCE, NOW_S, NitroMachine, NvidiaService, SnpMachine, _encode, gpu_claims, key_config, respond, revocation_list
from leanto_cloud.attesters.base import Attestation
from leanto_cloud.attesters.certificate_table import parse_table
from leanto_cloud.attesters.nitro import NitroAttester
from leanto_cloud.errors import AttestationError
from leanto_wire.development import DevelopmentPolicy, sign_report
from leanto_wire.errors import EvidenceError
from leanto_wire.evidence import nvidia, verify
from leanto_wire.evidence.certificates import load_certificate, load_chain
from leanto_wire.evidence.cose import decode, parse_sign1
from leanto_wire.evidence.jwt import parse_jwt
from leanto_wire.evidence.nvidia import parse_bundle
from leanto_wire.evidence.revocation import check_revocation
from leanto_wire.evidence.sev_snp import verify_report
from leanto_wire.evidence.snp_report import SIGNED_BYTES
from leanto_wire.evidence.strict_json import parse_object
from leanto_wire.evidence.tdx import verify_quote
from leanto_wire.policies import TdxPolicy
from leanto_wire.report_data import report_data
from leanto_wire.v1.private_compute_pb2 import (
    ACCELERATOR_TYPE_NVIDIA,
    EVIDENCE_TYPE_DEVELOPMENT,
    EVIDENCE_TYPE_NITRO,
    AcceleratorEvidence,
    Endorsement,
    EvidenceResponse,
    KeyConfig,
)

ROOT = Ed25519PrivateKey.from_private_bytes(bytes(range(32)))
DEVELOPMENT = DevelopmentPolicy(ROOT.public_key().public_bytes_raw())
SAMPLES = DATA / "private" / "tdx"
TDX_NOW_S = 1_751_328_000.0  # when the collateral of the sample was current
TDX = TdxPolicy(
    frozenset({bytes.fromhex("91eb2b44d141d4ece09f0c75c2c53d247a3c68edd7fafe8a3520c942a604a407de03ae6dc5f87f27428b2538873118b7")})
)
CERTIFICATES = ("vcek", "ask", "ark", "crl")


@cache
def snp() -> SnpMachine:
    """An honest processor, with a GPU."""
    return SnpMachine.make(nvidia=gpu())


@cache
def nitro() -> NitroMachine:
    """An honest enclave's host."""
    return NitroMachine.make()


@cache
def gpu() -> NvidiaService:
    """An honest attestation service."""
    return NvidiaService.make()


@cache
def policies() -> dict[int, Any]:
    """By the first byte of a message, its type, the policy that believes it."""
    snp_policy = snp().policy(nvidia=gpu().requirement())
    return {snp().evidence_type: snp_policy, EVIDENCE_TYPE_NITRO: nitro().policy(), EVIDENCE_TYPE_DEVELOPMENT: DEVELOPMENT}


@cache
def messages() -> tuple[bytes, ...]:
    """Sound evidence of three types."""
    return tuple(each.SerializeToString() for each in (snp().evidence(), nitro().evidence(), development(key_config())))


def development(config: bytes) -> EvidenceResponse:
    """Development evidence, of a key configuration that is none as well."""
    signed = sign_report(report_data(EVIDENCE_TYPE_DEVELOPMENT, config, NONCE), ROOT)
    return EvidenceResponse(type=EVIDENCE_TYPE_DEVELOPMENT, key_config=config, nonce=NONCE, report=signed)


def message(raw: bytes) -> None:
    """Whole, under the policy of its type, or under one that it is not for."""
    evidence = EvidenceResponse.FromString(raw)
    verify(evidence, policies().get(evidence.type, TDX), NOW_S, NONCE)


def nitro_document(payload: bytes) -> None:
    """What the host signs."""
    machine = nitro()
    signature = machine.leaf.sign(cbor2.dumps(["Signature1", machine.protected, b"", payload]))
    report = cbor2.dumps([machine.protected, {}, payload, signature])
    verify(respond(EVIDENCE_TYPE_NITRO, Attestation(report)), machine.policy(), NOW_S, NONCE)


@cache
def nitro_payload() -> bytes:
    """A sound document."""
    payload: bytes = cbor2.loads(nitro().attest(report_data(EVIDENCE_TYPE_NITRO, key_config(), NONCE)).report)[2]
    return payload


def snp_report(raw: bytes) -> None:
    """What the chip signs."""
    signature = snp().vcek.sign(raw)
    signed = raw + signature[47::-1] + bytes(24) + signature[:47:-1] + bytes(24) + bytes(368)
    verify_report(signed, certificates(), snp().policy(), NOW_S)


@cache
def certificates() -> dict[str, bytes]:
    """Those of the chip."""
    return dict(snp().attest(bytes(64)).endorsements)


def endorsements(parts: tuple[bytes, ...]) -> None:
    """The certificates and the list around a genuine report."""
    verify_report(genuine(), dict(zip(CERTIFICATES, parts, strict=False)), snp().policy(require_crl=True), NOW_S)


@cache
def genuine() -> bytes:
    """A report."""
    return snp().report(bytes(64))


@cache
def revocations() -> bytes:
    """A list that revokes nothing."""
    return revocation_list(snp().root)


def revocation(raw: bytes) -> None:
    """A list over a chain."""
    check_revocation(raw, [snp().vcek.certificate, snp().ask.certificate, snp().root.certificate], NOW_S)


def _token(claims: bytes) -> str:
    """Whatever it says, the service has signed it."""
    signed = f"{_encode(json.dumps(gpu().header).encode())}.{_encode(claims)}"
    return f"{signed}.{_encode(gpu().signer.sign(signed.encode()))}"


def _claims(more: dict[str, Any]) -> bytes:
    return json_of({"nbf": int(NOW_S) - 60, "exp": int(NOW_S) + 600, **more})


def gpu_device(claims: bytes) -> None:
    """What the service says of a GPU."""
    token = _token(claims)
    _appraise(token, _overall(token))


def gpu_overall(claims: bytes) -> None:
    """What the service says of all of them."""
    _appraise(device_token(), claims)


def _appraise(token: str, overall: bytes) -> None:
    bundle = json_of([["JWT", _token(overall)], {"GPU-0": token}])
    evidence = EvidenceResponse(
        endorsements=[Endorsement(name="nvidia", value=gpu().chain)],
        accelerators=[AcceleratorEvidence(type=ACCELERATOR_TYPE_NVIDIA, token=bundle)],
    )
    nvidia.appraise(evidence, gpu().requirement(), NOW_S, bytes(32))


def _device() -> bytes:
    return _claims({**gpu_claims(bytes(32)), "ueid": "1"})


def _overall(token: str) -> bytes:
    named = {"GPU-0": ["DIGEST", ["SHA256", sha256(token.encode()).hexdigest()]]}
    return _claims({"eat_nonce": bytes(32).hex(), "x-nvidia-overall-att-result": True, "submods": named})


@cache
def device_token() -> str:
    """The service's sound word on a GPU."""
    return _token(_device())


@cache
def bundle() -> bytes:
    """Sound evidence of a GPU."""
    return gpu().bundle(bytes(32))


@cache
def quote() -> tuple[bytes, bytes]:
    """A real quote and its collateral."""
    return (SAMPLES / "dcapqvl_tdx_quote").read_bytes(), (SAMPLES / "dcapqvl_tdx_quote_collateral.json").read_bytes()


@cache
def table() -> bytes:
    """The certificates that a host hands its guest: a row each of id, offset and length, one of zeros, then the certificates."""
    from leanto_cloud.attesters import certificate_table

    rows, rest = b"", b""
    for kind, content in zip(certificate_table._NAMES, (snp().vcek.der, snp().ask.der, snp().root.der), strict=False):
        rows += certificate_table._ENTRY.pack(kind, 4 * 24 + len(rest), len(content))
        rest += content
    return rows + bytes(24) + rest


def _attested(answer: bytes) -> None:
    NitroAttester(lambda _: answer).attest(bytes(64))


def _changed_report(random: Random, raw: bytes) -> bytes:
    return changed_number(random, raw[:SIGNED_BYTES])


REFUSED = (EvidenceError,)
TARGETS = (
    Target(
        "evidence.message",
        drawn(lambda random: random.choice(messages()), changed_message(EvidenceResponse)),
        message,
        (EvidenceError, DecodeError),
    ),
    Target(
        "evidence.key_config",
        fixed(key_config, changed_message(KeyConfig)),
        lambda raw: verify(development(raw), DEVELOPMENT, NOW_S, NONCE),
        REFUSED,
    ),
    Target("evidence.nitro_document", fixed(nitro_payload), nitro_document, REFUSED),
    Target("evidence.snp_report", fixed(lambda: genuine()[:SIGNED_BYTES], _changed_report), snp_report, REFUSED),
    Target(
        "evidence.endorsements", one_of(lambda _: (snp().vcek.der, snp().ask.der, snp().root.der, revocations())), endorsements, REFUSED
    ),
    Target("evidence.gpu_device", fixed(_device, changed_json), gpu_device, REFUSED),
    Target("evidence.gpu_overall", fixed(lambda: _overall(device_token()), changed_json), gpu_overall, REFUSED),
    Target("evidence.gpu_bundle", fixed(bundle, changed_json), parse_bundle, REFUSED),
    Target("evidence.jwt", fixed(lambda: json.loads(bundle())[0][1].encode()), lambda raw: parse_jwt(raw.decode("latin-1")), REFUSED),
    Target("evidence.certificate", fixed(lambda: snp().vcek.der), lambda raw: load_certificate(raw, "fuzzed"), REFUSED),
    Target("evidence.chain", fixed(lambda: gpu().chain), lambda raw: load_chain(raw, "fuzzed"), REFUSED),
    Target("evidence.revocation", fixed(revocations), revocation, REFUSED),
    Target("evidence.cbor", fixed(lambda: cbor2.dumps({"a": [1, b"2", {"3": None}], "b": True, 4: -(2**40)})), decode, REFUSED),
    Target("evidence.sign1", fixed(lambda: nitro().attest(bytes(64)).report), parse_sign1, REFUSED),
    Target("evidence.json", fixed(_device, changed_json), parse_object, (ValueError, UnicodeDecodeError, json.JSONDecodeError)),
    Target("attester.certificate_table", fixed(table), parse_table, (AttestationError,)),
    Target("attester.nitro_module", fixed(lambda: cbor2.dumps({"Attestation": {"document": b"document"}})), _attested, (AttestationError,)),
)
if SAMPLES.is_dir():  # without them there is nothing sound to begin with
    TARGETS += (
        Target(
            "evidence.tdx_quote",
            fixed(lambda: quote()[0]),
            lambda raw: verify_quote(raw, {"collateral": quote()[1]}, TDX, TDX_NOW_S),
            REFUSED,
        ),
        Target(
            "evidence.tdx_collateral",
            fixed(lambda: quote()[1], changed_json),
            lambda raw: verify_quote(quote()[0], {"collateral": raw}, TDX, TDX_NOW_S),
            REFUSED,
        ),
    )
