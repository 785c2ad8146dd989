"""Reports through Linux's configfs (Documentation/ABI/testing/configfs-tsm-report, Linux 6.7): SEV-SNP and TDX alike.

A folder is made, the data written, the report read, the folder removed. `generation` counts the writes: one that moved while we read
means that somebody else wrote there. Knows nothing of what a report says.
"""

from __future__ import annotations

import errno
import os
import secrets
from dataclasses import dataclass
from pathlib import Path

from leanto_cloud.errors import AttestationError

ROOT = Path("/sys/kernel/config/tsm/report")
MAX_BLOB_BYTES = 32 * 1024  # the kernel's own limit
ATTEMPTS = 3


@dataclass(frozen=True, slots=True)
class Blobs:
    """The report, and what the provider adds to it: for SEV-SNP the host's certificate table, empty if it has none."""

    report: bytes
    auxiliary: bytes


class Configfs:
    """The folder of reports. `root` must be mounted: `mount -t configfs none /sys/kernel/config`."""

    def __init__(self, root: Path = ROOT) -> None:
        self._root = root

    def report(self, provider: str, data: bytes) -> Blobs:
        """A report over `data` (64 bytes) by `provider`. Raises AttestationError."""
        try:
            folder = self._root / f"leanto-{os.getpid()}-{secrets.token_hex(4)}"
            self.make(folder)
            try:
                return self._read(folder, provider, data)
            finally:
                self.remove(folder)
        except OSError as error:
            raise AttestationError(
                f"{self._root}: {error.strerror or error}; is this a confidential guest on Linux 6.7 or newer?"
            ) from None

    def _read(self, folder: Path, provider: str, data: bytes) -> Blobs:
        found = self.read(folder / "provider").decode("ascii", "replace").strip()
        if found != provider:
            raise AttestationError(f"this machine's reports are made by {found or 'nobody'}, not by {provider}")
        for _ in range(ATTEMPTS):
            before = self._generation(folder)
            self.write(folder / "inblob", data)
            try:
                report, auxiliary = self.read(folder / "outblob"), self._auxiliary(folder)
            except OSError as error:
                if error.errno == errno.EWOULDBLOCK:  # another write came between
                    continue
                raise
            if self._generation(folder) == before + 1:
                return Blobs(report, auxiliary)
        raise AttestationError(f"somebody else keeps writing to {folder}")

    def _generation(self, folder: Path) -> int:
        text = self.read(folder / "generation").strip()
        if not text.isdigit():
            raise AttestationError(f"{folder}/generation is no number")
        return int(text)

    def _auxiliary(self, folder: Path) -> bytes:
        try:
            return self.read(folder / "auxblob")
        except FileNotFoundError:  # only where a provider has any
            return b""

    def make(self, folder: Path) -> None:
        """Make the folder; the kernel fills it."""
        folder.mkdir(mode=0o700)

    def write(self, file: Path, data: bytes) -> None:
        """Write an attribute in one piece."""
        descriptor = os.open(file, os.O_WRONLY | os.O_CLOEXEC)
        try:
            os.write(descriptor, data)
        finally:
            os.close(descriptor)

    def read(self, file: Path) -> bytes:
        """An attribute, whole. Raises AttestationError for one that is too long."""
        with file.open("rb", buffering=0) as stream:
            found = bytearray()
            while part := stream.read(MAX_BLOB_BYTES + 1 - len(found)):
                found += part
                if len(found) > MAX_BLOB_BYTES:
                    raise AttestationError(f"{file} is longer than any report")
        return bytes(found)

    def remove(self, folder: Path) -> None:
        """Remove the folder; the kernel's files in it go with it."""
        folder.rmdir()
