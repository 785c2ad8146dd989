"""The attester of an AWS Nitro enclave: documents from the Nitro security module, by Linux's /dev/nsm (include/uapi/linux/nsm.h).

Knows nothing of how an enclave talks to the world: that is vsock's business.
"""

from __future__ import annotations

import ctypes
import fcntl
import os
from collections.abc import Callable
from pathlib import Path

from leanto_cloud.attesters.base import Attestation
from leanto_cloud.errors import AttestationError
from leanto_wire.report_data import REPORT_DATA_BYTES
from leanto_wire.v1.private_compute_pb2 import EVIDENCE_TYPE_NITRO, EvidenceType

DEVICE = Path("/dev/nsm")
RESPONSE_BYTES = 0x3000  # the most that the module answers
_NSM_IOCTL_RAW = 0xC0200A00  # _IOWR(0x0A, 0, struct nsm_raw)


class _Vector(ctypes.Structure):
    _fields_ = (("address", ctypes.c_uint64), ("length", ctypes.c_uint64))


class _Raw(ctypes.Structure):
    _fields_ = (("request", _Vector), ("response", _Vector))


def ask_device(request: bytes) -> bytes:
    """The module's answer to a request, both CBOR. Raises AttestationError."""
    asked = ctypes.create_string_buffer(request, len(request))
    answer = ctypes.create_string_buffer(RESPONSE_BYTES)
    raw = _Raw(_Vector(ctypes.addressof(asked), len(request)), _Vector(ctypes.addressof(answer), RESPONSE_BYTES))
    try:
        descriptor = os.open(DEVICE, os.O_RDWR | os.O_CLOEXEC)
        try:
            fcntl.ioctl(descriptor, _NSM_IOCTL_RAW, raw)
        finally:
            os.close(descriptor)
    except OSError as error:
        raise AttestationError(f"{DEVICE}: {error.strerror or error}; is this a Nitro enclave?") from None
    return answer.raw[: min(raw.response.length, RESPONSE_BYTES)]


class NitroAttester:
    """Asks the module for each document. `ask` exchanges one message with it."""

    evidence_type: EvidenceType.ValueType = EVIDENCE_TYPE_NITRO

    def __init__(self, ask: Callable[[bytes], bytes] = ask_device) -> None:
        """Raises AttestationError unless a first attestation works: a node that cannot attest does not start."""
        self._ask = ask
        self.attest(bytes(REPORT_DATA_BYTES))

    def attest(self, data: bytes) -> Attestation:
        """A document with `data` (64 bytes) as its user data. Raises AttestationError."""
        try:
            import cbor2
        except ImportError:
            raise AttestationError("asking the Nitro security module needs cbor2: pip install 'leanto[attest]'") from None
        answer = self._ask(cbor2.dumps({"Attestation": {"user_data": data, "nonce": None, "public_key": None}}))
        try:
            document = cbor2.loads(answer)["Attestation"]["document"]
        except (cbor2.CBORDecodeError, KeyError, TypeError):
            document = None
        if not isinstance(document, bytes):
            raise AttestationError("the Nitro security module gives no document")
        return Attestation(document)
