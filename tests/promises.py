"""A signed risk certificate for the pair of fakes, that never expires."""

from __future__ import annotations

import base64
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from fakes import FakeCloud
from leanto.certificates.certificate import Certificate, Point, sign
from leanto.certificates.certified import score_name

KEY = Ed25519PrivateKey.from_private_bytes(bytes(range(32)))
PUBLIC = base64.b64encode(KEY.public_key().public_bytes_raw()).decode()
POINTS = (Point(0.05, 0.5, 0.9, 0.04), Point(0.025, 0.8, 0.6, 0.02))


# For calls: α = .05 at a mean token probability of .5, and half of that at .8.
PROMISE = sign(Certificate("call", "edge-build", FakeCloud.model_id, score_name(None), "disagreement", 0.05, 3000, POINTS, 0.0, 4e9), KEY)


def key_file(folder: Path) -> Path:
    """KEY as PEM."""
    file = folder / "key.pem"
    file.write_bytes(KEY.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    return file
