"""A policy file that may change while it is in force: read again once an edit has settled. While it is broken, unsigned or perhaps half
written, nothing leaves the device.

Whoever asks gets one whole policy and keeps it for a whole request. Knows nothing of what policies mean.
"""

from __future__ import annotations

import base64
import binascii
import logging
import os
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from leanto.clock import Clock
from leanto.errors import PolicyError
from leanto.policy.overrides import Override, from_environment
from leanto.policy.reader import END, MAX_BYTES, default_policy, default_text, ends, parse_policy
from leanto.policy.schema import Policy

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

SETTLED_S = 0.5  # without a change, before a file is read
_LABEL = b"leanto policy 1\0"
Stamp = tuple[int, int, int, int]
_log = logging.getLogger("leanto")


def load_policy(path: str | Path, *, key: str | None = None, overrides: Sequence[Override] = ()) -> Policy:
    """The policy in the TOML file at `path`. Raises PolicyError with file and line.

    `key`: base64 of the Ed25519 public key that must have signed it (`leanto policy sign`); a signed policy takes no overrides.
    """
    return parse_policy(_checked(path, key, overrides), origin=str(path), overrides=overrides)


def sign_policy(path: str | Path, key: Ed25519PrivateKey) -> Path:
    """Write the signature of the file at `path` beside it, as FILE.sig. A broken policy is not signed. Raises PolicyError."""
    source = _checked(path, None, ())
    parse_policy(source, origin=str(path))
    signature = signature_path(path)
    try:
        signature.write_text(base64.b64encode(key.sign(_LABEL + source.encode())).decode() + "\n", encoding="ascii")
    except OSError as error:
        raise PolicyError(f"its signature cannot be written: {error.strerror or error}", file=str(signature)) from None
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
    """A policy, or the one of a file, kept up to date. Raises PolicyError if there is none to begin with.

    A file that has changed and cannot be taken closes the way to the cloud until it can (`Policy.closed`): a new client would not even
    start with it, or would not know it for whole.
    """

    def __init__(
        self,
        policy: Policy | str | Path,
        *,
        key: str | None = None,
        overrides: Sequence[Override] = (),
        clock: Clock | None = None,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._path = None if isinstance(policy, Policy) else Path(policy)
        self._key, self._overrides = key, tuple(overrides)
        self._clock = clock or Clock()
        self._lock = threading.Lock()
        self._since: float | None = None  # when a change was first seen that is not in force
        self._seen: tuple[Stamp, ...] = ()  # of the file, and of its signature
        self._taken = policy if isinstance(policy, Policy) else self._first(sleep)
        self._policy = self._taken

    def current(self) -> Policy:
        """The policy in force. A changed file is read when it has settled; one that cannot be taken closes the cloud, and is logged."""
        if self._path is None or (self._stamp() == self._seen and self._since is None):
            return self._policy
        with self._lock:
            stamp, now = self._stamp(), self._clock.monotonic()
            if stamp != self._seen:
                self._seen, self._since = stamp, now
            elif self._since is not None and now - self._since >= SETTLED_S:
                after = self._read_again()
                if self._stamp() == stamp:
                    self._policy, self._since = after, None
                else:  # written while it was read: what was read is nothing
                    self._since = now
            return self._policy

    def _first(self, sleep: Callable[[float], None]) -> Policy:
        """The file as a client finds it; one that was written just now, and does not say that it is whole, is given time."""
        for _ in range(10):
            self._seen = self._stamp()
            policy, whole = self._load()
            young = abs(self._clock.wall() - self._seen[0][2] / 1e9) < SETTLED_S
            if self._seen == self._stamp() and (whole or not young):
                return policy
            sleep(SETTLED_S)
        raise PolicyError("is being written all the time; try again when it is done", file=str(self._path))

    def _read_again(self) -> Policy:
        """What is in force by the file as it is now."""
        try:
            policy, whole = self._load()
            if policy == self._taken:
                return self._taken
            if policy.cloud != self._taken.cloud:
                why = "[targets.cloud] changed, which needs a new client"
            elif not whole:
                why = f"changed, and may be half written: make [{END}] its last line"
            else:
                self._taken = policy
                return policy
            error = PolicyError(why, file=str(self._path))
        except PolicyError as fault:
            policy, error = self._taken, fault
        _log.warning("nothing leaves this device until the policy can be taken: %s", error)
        return replace(policy, closed=str(error))

    def _load(self) -> tuple[Policy, bool]:
        """The policy in the file, and whether it is known to be whole: a signature says so, or its last line."""
        assert self._path is not None
        source = _checked(self._path, self._key, self._overrides)
        policy = parse_policy(source, origin=str(self._path), overrides=self._overrides)
        return policy, self._key is not None or ends(source)

    def _stamp(self) -> tuple[Stamp, ...]:
        assert self._path is not None
        return tuple(map(stamp, (self._path, signature_path(self._path)) if self._key else (self._path,)))


def stamp(path: Path) -> Stamp:
    """What no change to a file leaves as it was; zeros where there is none."""
    try:
        status = os.stat(path)
    except (OSError, ValueError):
        return (0, 0, 0, 0)
    return (status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns)


def _checked(path: str | Path, key: str | None, overrides: Sequence[Override]) -> str:
    """The text of the file, signed where it must be. Raises PolicyError."""
    data = _read(path)
    if key is not None:
        if overrides:
            raise PolicyError(f"a signed policy cannot be overridden: remove {overrides[0].origin}", file=str(path))
        _check_signature(path, data, key)
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise PolicyError("is not valid UTF-8; save it as UTF-8 text", file=str(path), line=line) from None


def _read(path: str | Path) -> bytes:
    try:
        with Path(path).open("rb") as stream:
            before = os.fstat(stream.fileno())
            data = stream.read(MAX_BYTES + 1)
            after = os.fstat(stream.fileno())
    except OSError as error:
        raise PolicyError(f"cannot be read: {error.strerror or error}; give the path of a policy file", file=str(path)) from None
    if len(data) > MAX_BYTES:
        raise PolicyError(f"is larger than {MAX_BYTES} bytes; a policy is a short TOML file", file=str(path))
    if (before.st_size, before.st_mtime_ns) != (after.st_size, after.st_mtime_ns):
        raise PolicyError("was written to while it was read; try again when it is done", file=str(path))
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
