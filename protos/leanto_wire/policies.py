"""What evidence must prove: one frozen policy for each type of hardware. Values only: no parser, no cryptography, no clock.

A policy accepts the one type of evidence that it is named for. Knows nothing of the development type, whose policy lives with it.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

MEASUREMENT_BYTES = 48  # SHA-384, in SEV-SNP, TDX and Nitro alike
FINGERPRINT_BYTES = 32

# SHA-256 of the SubjectPublicKeyInfo of the vendors' roots: what a pinned root is named by everywhere here.
AMD_ROOTS = {
    bytes.fromhex("9f056bee44377e29308cb5ffa895bdfb62d18881fa6bed8d6f075b0204089cb9"): "Milan",
    bytes.fromhex("429a69c9422aa258ee4d8db5fcda9c6470ef15f8cd5a9cebd6cbc7d90b863831"): "Genoa",
    bytes.fromhex("4f125410563a2ab9a50356f9243f6fe0b6f73de98603f53f90339c70e9d7ad08"): "Turin",
}
AWS_ROOT = bytes.fromhex("f2caf5ecc6190b4a8399b78bc58a2bbcd0382375db8a1bfd78a82743874fd225")


@dataclass(frozen=True, slots=True, kw_only=True)
class Terms:
    """What any policy may ask of a node's key, whatever vouches for it.

    `releases` None accepts any release digest, `log_origin` None any log or none. `max_lifetime_s` bounds how far ahead a key may expire.
    """

    releases: frozenset[bytes] | None = None
    max_lifetime_s: float = 48 * 3600
    log_origin: str | None = None


@dataclass(frozen=True, slots=True)
class NvidiaRequirement:
    """Asks for evidence of at least `devices` GPUs, signed under one of `roots`; `models` None accepts any hardware model."""

    roots: frozenset[bytes]
    devices: int = 1
    models: frozenset[str] | None = None

    def __post_init__(self) -> None:
        """Raise ValueError for a requirement that would accept anything."""
        _check_hashes("a root of the GPU evidence", self.roots, FINGERPRINT_BYTES)
        if self.devices < 1:
            raise ValueError("GPU evidence is asked for at least one device")


@dataclass(frozen=True, slots=True)
class TcbVersion:
    """Security version numbers of an AMD processor's firmware. `fmc` exists from Turin on."""

    bootloader: int
    tee: int
    snp: int
    microcode: int
    fmc: int = 0

    def covers(self, least: TcbVersion) -> bool:
        """Whether every component is at least as new."""
        mine, theirs = ((each.bootloader, each.tee, each.snp, each.microcode, each.fmc) for each in (self, least))
        return all(own >= wanted for own, wanted in zip(mine, theirs, strict=True))

    def __str__(self) -> str:
        fmc = f", FMC {self.fmc}" if self.fmc else ""
        return f"boot loader {self.bootloader}, TEE {self.tee}, SNP {self.snp}, microcode {self.microcode}{fmc}"


@dataclass(frozen=True, slots=True)
class SevSnpPolicy(Terms):
    """Accepts AMD SEV-SNP reports of guests launched as one of `measurements` (48 bytes), on firmware no older than `minimum_tcb`.

    Never one of a guest that may be debugged or migrated. `id_keys` and `author_keys` are SHA-384 digests of who may have signed the
    guest's identity block; `require_crl` refuses evidence without AMD's current revocation list.
    """

    measurements: frozenset[bytes]
    minimum_tcb: TcbVersion
    vmpl: int = 0
    host_data: bytes | None = None
    id_keys: frozenset[bytes] | None = None
    author_keys: frozenset[bytes] | None = None
    require_crl: bool = False
    nvidia: NvidiaRequirement | None = None
    roots: frozenset[bytes] = frozenset(AMD_ROOTS)

    def __post_init__(self) -> None:
        """Raise ValueError for pins that are none."""
        _check_hashes("a measurement", self.measurements)
        _check_hashes("an id key digest", self.id_keys)
        _check_hashes("an author key digest", self.author_keys)
        _check_hashes("a root", self.roots, FINGERPRINT_BYTES)
        if self.vmpl not in range(4) or (self.host_data is not None and len(self.host_data) != 32):
            raise ValueError("a VMPL is 0 to 3, host data has 32 bytes")


@dataclass(frozen=True, slots=True)
class TdxPolicy(Terms):
    """Accepts Intel TDX quotes of trust domains whose MRTD, and RTMRs where named, are among the pins (48 bytes each).

    MRTD measures the firmware; kernel and what follows are in RTMR 1 and 2. Never one that may be debugged.
    """

    mrtd: frozenset[bytes]
    rtmr0: frozenset[bytes] | None = None
    rtmr1: frozenset[bytes] | None = None
    rtmr2: frozenset[bytes] | None = None
    rtmr3: frozenset[bytes] | None = None
    tcb_statuses: frozenset[str] = frozenset({"UpToDate"})
    nvidia: NvidiaRequirement | None = None

    def __post_init__(self) -> None:
        """Raise ValueError for pins that are none."""
        for pins in (self.mrtd, self.rtmr0, self.rtmr1, self.rtmr2, self.rtmr3):
            _check_hashes("an MRTD or RTMR", pins)


@dataclass(frozen=True, slots=True)
class NitroPolicy(Terms):
    """Accepts AWS Nitro attestation documents of enclaves whose PCR 0, and others where named, are among the pins (48 bytes each).

    PCR 0 measures the whole image, 1 kernel and boot, 2 the application, 8 who signed the image. Never one in debug mode.
    """

    pcr0: frozenset[bytes]
    pcr1: frozenset[bytes] | None = None
    pcr2: frozenset[bytes] | None = None
    pcr8: frozenset[bytes] | None = None
    nvidia: NvidiaRequirement | None = None
    roots: frozenset[bytes] = frozenset({AWS_ROOT})

    def __post_init__(self) -> None:
        """Raise ValueError for pins that are none."""
        for pins in (self.pcr0, self.pcr1, self.pcr2, self.pcr8):
            _check_hashes("a PCR", pins)
            if pins and bytes(MEASUREMENT_BYTES) in pins:
                raise ValueError("a PCR of zeros is that of an enclave in debug mode")
        _check_hashes("a root", self.roots, FINGERPRINT_BYTES)


HardwarePolicy = SevSnpPolicy | TdxPolicy | NitroPolicy


def _check_hashes(what: str, pins: Iterable[bytes] | None, size: int = MEASUREMENT_BYTES) -> None:
    if pins is None:
        return
    if not (pins := tuple(pins)):
        raise ValueError(f"{what} is named by its {size} bytes; name at least one")
    for pin in pins:
        if len(pin) != size:
            raise ValueError(f"{what} has {size} bytes, not {len(pin)}")
