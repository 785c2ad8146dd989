"""A policy file that may change while it is in force: read again once an edit has settled, refused while it is broken or unsigned.

Whoever asks gets one whole policy and keeps it for a whole request. Knows nothing of what policies mean.
"""

from __future__ import annotations

import base64
import binascii
import logging
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from leanto.clock import Clock
from leanto.errors import PolicyError
from leanto.policy.overrides import Override, from_environment
from leanto.policy.reader import MAX_BYTES, default_policy, default_text, parse_policy
from leanto.policy.schema import Policy

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

SETTLED_S = 0.5  # without a change, before an edit counts as finished: half a file may be a policy too
_LABEL = b"leanto policy 1\0"
_log = logging.getLogger("leanto")


def load_policy(path: str | Path, *, key: str | None = None, overrides: Sequence[Override] = ()) -> Policy:
    """The policy in the TOML file at `path`. Raises PolicyError with file and line.

    `key`: base64 of the Ed25519 public key that must have signed it (`leanto policy sign`); a signed policy takes no overrides.
    """
    data = _read(path)
    if key is not None:
        if overrides:
            raise PolicyError(f"a signed policy cannot be overridden: remove {overrides[0].origin}", file=str(path))
        _check_signature(path, data, key)
    try:
        return parse_policy(data.decode("utf-8"), origin=str(path), overrides=overrides)
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise PolicyError("is not valid UTF-8; save it as UTF-8 text", file=str(path), line=line) from None


def sign_policy(path: str | Path, key: Ed25519PrivateKey) -> Path:
    """Write the signature of the file at `path` beside it, as FILE.sig. A broken policy is not signed. Raises PolicyError."""
    load_policy(path)
    signature = signature_path(path)
    signature.write_text(base64.b64encode(key.sign(_LABEL + _read(path))).decode() + "\n", encoding="ascii")
    return signature


def signature_path(path: str | Path) -> Path:
    """Where the signature of a policy file lies."""
    return Path(f"{path}.sig")


def policy_of(
    policy: Policy | str | Path | None,
    key: str | None,
    environment: Mapping[str, str],
    arguments: Sequence[Override] = (),
    clock: Clock | None = None,
) -> PolicySource:
    """What a client goes by: a Policy as it is; or a file, given or named by LEANTO_POLICY, else the default, each with overrides.

    LEANTO_POLICY_KEY stands for a `key` that is not given. Raises PolicyError.
    """
    if isinstance(policy, Policy):
        return PolicySource(policy)
    path, key = policy or environment.get("LEANTO_POLICY"), key or environment.get("LEANTO_POLICY_KEY")
    overrides = (*from_environment(environment), *arguments)
    if path:
        return PolicySource(path, key=key, overrides=overrides, clock=clock)
    if key:
        raise PolicyError("a policy key is given, but no policy file that it could have signed", file="default")
    return PolicySource(parse_policy(default_text(), origin="default", overrides=overrides) if overrides else default_policy())


class PolicySource:
    """A policy, or the one of a file, kept up to date. Raises PolicyError if there is none to begin with."""

    def __init__(
        self, policy: Policy | str | Path, *, key: str | None = None, overrides: Sequence[Override] = (), clock: Clock | None = None
    ) -> None:
        self._path = None if isinstance(policy, Policy) else Path(policy)
        self._key, self._overrides = key, tuple(overrides)
        self._clock = clock or Clock()
        self._seen = self._stamp()
        self._since: float | None = None  # when a change was first seen that is not in force
        self._policy = policy if isinstance(policy, Policy) else load_policy(policy, key=key, overrides=overrides)

    def current(self) -> Policy:
        """The policy in force. A changed file is read when it has settled; one that cannot be read changes nothing, and is logged."""
        stamp = self._stamp()
        if stamp == self._seen and self._since is None:
            return self._policy
        now = self._clock.monotonic()
        if stamp != self._seen or self._since is None:
            self._seen, self._since = stamp, now
        elif now - self._since >= SETTLED_S:
            self._since = None
            self._reload()
        return self._policy

    def _reload(self) -> None:
        assert self._path is not None  # a policy without a file never changes
        try:
            policy = load_policy(self._path, key=self._key, overrides=self._overrides)
            if policy.cloud != self._policy.cloud:
                raise PolicyError("[targets.cloud] changed, which needs a new client", file=str(self._path))
        except PolicyError as error:
            _log.warning("the policy stays as it was: %s", error)
            return
        self._policy = policy

    def _stamp(self) -> tuple[tuple[int, int, int], ...]:
        if self._path is None:
            return ()
        found = []
        for path in (self._path, signature_path(self._path)) if self._key else (self._path,):
            try:
                status = os.stat(path)
            except OSError:
                found.append((0, 0, 0))
            else:
                found.append((status.st_ino, status.st_size, status.st_mtime_ns))
        return tuple(found)


def _read(path: str | Path) -> bytes:
    try:
        with Path(path).open("rb") as stream:
            data = stream.read(MAX_BYTES + 1)
    except OSError as error:
        raise PolicyError(f"cannot be read: {error.strerror or error}; give the path of a policy file", file=str(path)) from None
    if len(data) > MAX_BYTES:
        raise PolicyError(f"is larger than {MAX_BYTES} bytes; a policy is a short TOML file", file=str(path))
    return data


def _check_signature(path: str | Path, data: bytes, key: str) -> None:
    from cryptography.exceptions import InvalidSignature
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

    file = signature_path(path)
    try:
        public = Ed25519PublicKey.from_public_bytes(base64.b64decode(key, validate=True))
    except (binascii.Error, ValueError):
        raise PolicyError("the policy key is not the base64 of a 32-byte Ed25519 public key", file=str(path)) from None
    try:
        public.verify(base64.b64decode(file.read_bytes().strip(), validate=True), _LABEL + data)
    except OSError as error:
        raise PolicyError(f"its signature cannot be read: {error.strerror or error}; sign it: leanto policy sign", file=str(file)) from None
    except (InvalidSignature, binascii.Error, ValueError):
        raise PolicyError("its signature is not by the policy key; sign it again: leanto policy sign", file=str(path)) from None
