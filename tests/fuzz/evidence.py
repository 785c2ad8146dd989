"""Malformed evidence of every type, signed where a dishonest machine could sign it: nothing but EvidenceError comes of it.

`python -m fuzz.evidence FIRST COUNT` tries the cases with those numbers, prints each that broke the promise, and counts of the rest.
The same number always changes the same places, of keys and certificates that are new each time.
"""

from __future__ import annotations

import json
import sys
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache
from random import Random
from typing import Any

import cbor2
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from google.protobuf.message import DecodeError

from data_folder import DATA
from fuzz.loader import bound_memory
from hardware import NONCE, NOW_S, NitroMachine, NvidiaService, SnpMachine, key_config, respond, revocation_list
from leanto_cloud.attesters.base import Attestation
from leanto_cloud.attesters.certificate_table import parse_table
from leanto_cloud.errors import AttestationError
from leanto_wire.development import DevelopmentPolicy, sign_report
from leanto_wire.errors import EvidenceError
from leanto_wire.evidence import verify
from leanto_wire.evidence.certificates import load_certificate, load_chain
from leanto_wire.evidence.cose import decode
from leanto_wire.evidence.jwt import parse_jwt
from leanto_wire.evidence.nvidia import parse_bundle
from leanto_wire.evidence.revocation import check_revocation
from leanto_wire.evidence.sev_snp import verify_report
from leanto_wire.evidence.tdx import verify_quote
from leanto_wire.policies import TdxPolicy
from leanto_wire.report_data import report_data
from leanto_wire.v1.private_compute_pb2 import EVIDENCE_TYPE_DEVELOPMENT, EVIDENCE_TYPE_NITRO, EvidenceResponse

LONGEST_S = 2.0
SAMPLES = DATA / "private" / "tdx"
TOKENS = (
    b"",
    b"\0",
    b"\xff",
    b"\x81",
    b"\x9f",
    b"\xbf",
    b"[",
    b'{"',
    b'"',
    b".",
    b"\x80\x80\x80\x80\x10",
    b"-----BEGIN CERTIFICATE-----",
    b"9" * 40,
)


@dataclass(frozen=True)
class World:
    """Honest machines, and the policies that believe them."""

    snp: SnpMachine
    nitro: NitroMachine
    service: NvidiaService
    root: Ed25519PrivateKey


@cache
def world() -> World:
    """Made once: keys take time."""
    service = NvidiaService.make()
    return World(SnpMachine.make(nvidia=service), NitroMachine.make(), service, Ed25519PrivateKey.generate())


def mutated(random: Random, seed: bytes) -> bytes:
    """A few changes to `seed`: bits, cuts, repeats, insertions; now and then bytes of no origin."""
    if random.random() < 0.05:
        return random.randbytes(random.randrange(200))
    raw = bytearray(seed)
    for _ in range(random.choice((1, 1, 1, 2, 4, 16))):
        start = random.randrange(len(raw) + 1)
        end = min(len(raw), start + random.choice((1, 2, 8, 64)))
        change = random.randrange(5)
        if change == 0 and raw:
            raw[start % len(raw)] ^= 1 << random.randrange(8)
        elif change == 1:
            del raw[start:end]
        elif change == 2:
            raw[start:start] = raw[start:end] * random.choice((1, 2, 50))
        elif change == 3:
            raw[start:end] = random.choice(TOKENS)
        else:
            raw[start:start] = random.choice(TOKENS) * random.choice((1, 3, 300))
    return bytes(raw)


def whole(random: Random) -> None:
    """A message of any type, changed anywhere, under the policy of any type."""
    there = world()
    evidence = random.choice((there.snp.evidence, there.nitro.evidence, development))()
    policy: Any = random.choice(
        (
            there.snp.policy(nvidia=there.service.requirement()),
            there.nitro.policy(),
            DevelopmentPolicy(there.root.public_key().public_bytes_raw()),
            TdxPolicy(frozenset({bytes(48)})),
        )
    )
    verify(EvidenceResponse.FromString(mutated(random, evidence.SerializeToString())), policy, NOW_S, NONCE)


def development(config: bytes | None = None) -> EvidenceResponse:
    """Development evidence, of a key configuration that is none as well."""
    config = key_config() if config is None else config
    signed = sign_report(report_data(EVIDENCE_TYPE_DEVELOPMENT, config, NONCE), world().root)
    return EvidenceResponse(type=EVIDENCE_TYPE_DEVELOPMENT, key_config=config, nonce=NONCE, report=signed)


def signed_key_configuration(random: Random) -> None:
    """A key configuration that the root signs, whatever it says."""
    policy = DevelopmentPolicy(world().root.public_key().public_bytes_raw())
    verify(development(mutated(random, key_config())), policy, NOW_S, NONCE)


def signed_document(random: Random) -> None:
    """A Nitro document that its host signs, whatever it says."""
    machine = world().nitro
    payload = mutated(random, cbor2.loads(machine.attest(report_data(EVIDENCE_TYPE_NITRO, key_config(), NONCE)).report)[2])
    signature = machine.leaf.sign(cbor2.dumps(["Signature1", machine.protected, b"", payload]))
    report = cbor2.dumps([machine.protected, {}, payload, signature])
    verify(respond(EVIDENCE_TYPE_NITRO, Attestation(report)), machine.policy(), NOW_S, NONCE)


def signed_fields(random: Random) -> None:
    """An SEV-SNP report that its chip signs, whatever it says."""
    machine = replace(world().snp, fields={random.randrange(0x2A0 - 8): random.randbytes(random.randrange(1, 9)) for _ in range(2)})
    verify(machine.evidence(), machine.policy(), NOW_S, NONCE)


def signed_tokens(random: Random) -> None:
    """GPU claims that the service signs, whatever they say."""
    strange: Any = random.choice((None, 0, -1, 1e308, True, "", "x" * 1000, [], {}, [[]] * 50, 2**70))
    names = ("eat_nonce", "exp", "nbf", "measres", "hwmodel", "ueid", "x-nvidia-gpu-driver-rim-cert-chain", "submods", "secboot")
    change = {random.choice(names): strange}
    service = replace(world().service, **{random.choice(("changes", "overall")): change})
    machine = replace(world().snp, nvidia=service)
    verify(machine.evidence(), machine.policy(nvidia=service.requirement()), NOW_S, NONCE)


def endorsements(random: Random) -> None:
    """One of the certificates around a genuine report changed."""
    machine = world().snp
    attestation = machine.attest(bytes(64))
    named = {**attestation.endorsements, "crl": revocations()}
    name = random.choice(sorted(named))
    verify_report(attestation.report, {**named, name: mutated(random, named[name])}, machine.policy(), NOW_S)


@cache
def revocations() -> bytes:
    """A list that revokes nothing."""
    return revocation_list(world().snp.root)


def quote(random: Random) -> None:
    """A TDX quote or its collateral changed: the real ones where they are there."""
    raw, collateral = samples()
    both = (mutated(random, raw), collateral) if random.random() < 0.5 else (raw, mutated(random, collateral))
    verify_quote(both[0], {"collateral": both[1]}, TdxPolicy(frozenset({bytes(48)})), 1_751_328_000)


@cache
def samples() -> tuple[bytes, bytes]:
    """A quote and its collateral."""
    if not SAMPLES.is_dir():
        return bytes(5000), json.dumps({"tcb_info": "{}", "qe_identity": "{}"}).encode()
    return (SAMPLES / "dcapqvl_tdx_quote").read_bytes(), (SAMPLES / "dcapqvl_tdx_quote_collateral.json").read_bytes()


def parsers(random: Random) -> None:
    """Each parser by itself."""
    machine, service = world().snp, world().service
    bundle = service.bundle(bytes(32))
    parse: Callable[[bytes], object]
    parse, seed = random.choice(
        (
            (lambda raw: load_certificate(raw, "fuzzed"), machine.vcek.der),
            (lambda raw: load_chain(raw, "fuzzed"), service.chain),
            (lambda raw: check_revocation(raw, [machine.vcek.certificate, machine.root.certificate], NOW_S), revocations()),
            (decode, cbor2.dumps({"a": [1, b"2", {"3": None}], "b": True})),
            (parse_bundle, bundle),
            (lambda raw: parse_jwt(raw.decode("latin-1")), json.loads(bundle)[0][1].encode()),
            (parse_table, bytes(24 * 3) + b"certificates"),
        )
    )
    parse(mutated(random, seed))


KINDS = (whole, signed_key_configuration, signed_document, signed_fields, signed_tokens, endorsements, quote, parsers)


def main(first: int, count: int) -> None:
    """Try the cases; print what broke, then what came of the others."""
    outcomes: Counter[str] = Counter()
    for number in range(first, first + count):
        kind = KINDS[number % len(KINDS)]
        start_s = time.perf_counter()
        try:
            kind(Random(number))
            outcome = "accepted"
        except (EvidenceError, AttestationError, DecodeError) as error:
            outcome = type(error).__name__
            if "\n" in str(error):
                print(f"{number} {kind.__name__}: more than one line: {error!r}")
        except BaseException as error:
            print(f"{number} {kind.__name__}: {error!r}")
            outcome = "BROKEN"
        if time.perf_counter() - start_s > LONGEST_S:
            print(f"{number} {kind.__name__}: took longer than {LONGEST_S} s")
        outcomes[outcome] += 1
    print(dict(outcomes))


if __name__ == "__main__":
    world()
    bound_memory()
    main(int(sys.argv[1]), int(sys.argv[2]))
