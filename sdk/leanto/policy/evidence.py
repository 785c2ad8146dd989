"""What `[targets.cloud.evidence]` may say: one table for each type of hardware, hex in, the wire's policy out.

There is none for the development type, which is named by its root alone. Knows nothing of how evidence is verified.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal

from leanto.policy.fields import Reader, choice, flag, integer, option, texts

if TYPE_CHECKING:
    from leanto_wire.policies import HardwarePolicy, NvidiaRequirement

TCB_NAMES = ("bootloader", "tee", "snp", "microcode", "fmc")
TCB_STATUSES = ("UpToDate", "SWHardeningNeeded", "ConfigurationNeeded", "ConfigurationAndSWHardeningNeeded", "OutOfDate")


def hexed(size: int) -> Reader:
    """`size` bytes in hex."""

    def read(value: Any) -> str:
        if not isinstance(value, str) or not re.fullmatch(rf"[0-9a-fA-F]{{{2 * size}}}", value):
            raise ValueError(f"expected {2 * size} hex digits")
        return value.lower()

    return read


def hexes(size: int) -> Reader:
    """A list of hashes in hex, each of `size` bytes; at least one."""

    def read(value: Any) -> tuple[str, ...]:
        if not isinstance(value, list | tuple) or not value:
            raise ValueError(f"expected a list of {2 * size} hex digits each")
        return tuple(map(hexed(size), value))

    return read


def tcb(value: Any) -> Mapping[str, int]:
    """The version numbers of an AMD processor's firmware; all but `fmc`, which came with Turin, are needed."""
    if not isinstance(value, dict) or not set(TCB_NAMES[:4]) <= value.keys() <= set(TCB_NAMES):
        raise ValueError("expected { bootloader = …, tee = …, snp = …, microcode = … }, and fmc = … from Turin on")
    return {name: integer(0, 255)(number) for name, number in value.items()}


def statuses(value: Any) -> tuple[str, ...]:
    """TCB statuses as Intel names them; never Revoked."""
    return tuple(choice(*TCB_STATUSES)(status) for status in texts(value))


@dataclass(frozen=True, slots=True)
class NvidiaEvidence:
    """GPUs that the node must show evidence of."""

    roots: tuple[str, ...] = option((), hexes(32), "SHA-256 of the public keys under which NVIDIA's service signs")
    devices: int = option(1, integer(1, 16), "how many GPUs at least")
    models: tuple[str, ...] | None = option(None, texts, "the hardware models accepted; any if left out")


@dataclass(frozen=True, slots=True)
class CommonEvidence:
    """What every type may ask."""

    releases: tuple[str, ...] | None = option(None, hexes(32), "release digests accepted; any if left out")
    max_lifetime_s: int = option(48 * 3600, integer(60, 7 * 86_400), "how far ahead the node's key may expire")
    nvidia: NvidiaEvidence | None = None

    @property
    def missing(self) -> str | None:
        """The first name that must be given and was not."""
        return next((name for name in _NEEDED[type(self)] if not getattr(self, name)), None)


@dataclass(frozen=True, slots=True)
class SevSnpEvidence(CommonEvidence):
    """`type = "sev-snp"`: AMD SEV-SNP."""

    type: Literal["sev-snp"] = "sev-snp"
    measurements: tuple[str, ...] = option((), hexes(48), "launch measurements accepted")
    minimum_tcb: Mapping[str, int] | None = option(None, tcb, "oldest firmware accepted: bootloader, tee, snp, microcode (and fmc)")
    vmpl: int = option(0, integer(0, 3), "privilege level that the report must be from")
    host_data: str | None = option(None, hexed(32), "the host data that the guest was launched with")
    id_keys: tuple[str, ...] | None = option(None, hexes(48), "SHA-384 of the id keys that may have signed the guest")
    author_keys: tuple[str, ...] | None = option(None, hexes(48), "SHA-384 of the author keys that may have signed the id key")
    require_crl: bool = option(False, flag, "refuse evidence without AMD's current revocation list")


@dataclass(frozen=True, slots=True)
class TdxEvidence(CommonEvidence):
    """`type = "tdx"`: Intel TDX."""

    type: Literal["tdx"] = "tdx"
    mrtd: tuple[str, ...] = option((), hexes(48), "MRTD accepted: the firmware of the domain")
    rtmr0: tuple[str, ...] | None = option(None, hexes(48), "RTMR 0 accepted: its configuration")
    rtmr1: tuple[str, ...] | None = option(None, hexes(48), "RTMR 1 accepted: boot loader and kernel")
    rtmr2: tuple[str, ...] | None = option(None, hexes(48), "RTMR 2 accepted: command line and initial file system")
    rtmr3: tuple[str, ...] | None = option(None, hexes(48), "RTMR 3 accepted: what the application extends")
    tcb_statuses: tuple[str, ...] = option(("UpToDate",), statuses, "what Intel may call the platform's firmware")


@dataclass(frozen=True, slots=True)
class NitroEvidence(CommonEvidence):
    """`type = "nitro"`: an AWS Nitro enclave."""

    type: Literal["nitro"] = "nitro"
    pcr0: tuple[str, ...] = option((), hexes(48), "PCR 0 accepted: the whole image")
    pcr1: tuple[str, ...] | None = option(None, hexes(48), "PCR 1 accepted: kernel and boot file system")
    pcr2: tuple[str, ...] | None = option(None, hexes(48), "PCR 2 accepted: the application")
    pcr8: tuple[str, ...] | None = option(None, hexes(48), "PCR 8 accepted: who signed the image")


HardwareEvidence = SevSnpEvidence | TdxEvidence | NitroEvidence
TYPES: Mapping[str, type[HardwareEvidence]] = {"sev-snp": SevSnpEvidence, "tdx": TdxEvidence, "nitro": NitroEvidence}
_NEEDED: Mapping[type, tuple[str, ...]] = {
    SevSnpEvidence: ("measurements", "minimum_tcb"),
    TdxEvidence: ("mrtd",),
    NitroEvidence: ("pcr0",),
}


def hardware_policy(evidence: HardwareEvidence) -> HardwarePolicy:
    """The wire's policy that asks for exactly this. Raises ValueError for what it could never accept."""
    from leanto_wire.policies import NitroPolicy, SevSnpPolicy, TcbVersion, TdxPolicy

    policy: HardwarePolicy
    if isinstance(evidence, SevSnpEvidence):
        policy = SevSnpPolicy(
            measurements=_raw(evidence.measurements),
            minimum_tcb=TcbVersion(**(evidence.minimum_tcb or {})),
            vmpl=evidence.vmpl,
            host_data=bytes.fromhex(evidence.host_data) if evidence.host_data else None,
            id_keys=_some(evidence.id_keys),
            author_keys=_some(evidence.author_keys),
            require_crl=evidence.require_crl,
        )
    elif isinstance(evidence, TdxEvidence):
        policy = TdxPolicy(
            mrtd=_raw(evidence.mrtd),
            rtmr0=_some(evidence.rtmr0),
            rtmr1=_some(evidence.rtmr1),
            rtmr2=_some(evidence.rtmr2),
            rtmr3=_some(evidence.rtmr3),
            tcb_statuses=frozenset(evidence.tcb_statuses),
        )
    else:
        policy = NitroPolicy(pcr0=_raw(evidence.pcr0), pcr1=_some(evidence.pcr1), pcr2=_some(evidence.pcr2), pcr8=_some(evidence.pcr8))
    return replace(
        policy,
        releases=_some(evidence.releases),
        max_lifetime_s=evidence.max_lifetime_s,
        nvidia=_nvidia(evidence.nvidia),
    )


def _nvidia(evidence: NvidiaEvidence | None) -> NvidiaRequirement | None:
    from leanto_wire.policies import NvidiaRequirement

    if evidence is None:
        return None
    return NvidiaRequirement(_raw(evidence.roots), evidence.devices, frozenset(evidence.models) if evidence.models else None)


def _raw(hashes: tuple[str, ...]) -> frozenset[bytes]:
    return frozenset(map(bytes.fromhex, hashes))


def _some(hashes: tuple[str, ...] | None) -> frozenset[bytes] | None:
    return None if hashes is None else _raw(hashes)
