"""NVIDIA's word on this machine's GPUs, from a program that is given a nonce: NVIDIA's own `nvattest`, or any that prints the same.

    nvattest attest --device gpu --verifier remote --nonce NONCE

Knows nothing of what the tokens say: clients judge them.
"""

from __future__ import annotations

import json
import shlex
import subprocess
from collections.abc import Callable

from leanto_cloud.errors import AttestationError, ConfigurationError

PROGRAM_S = 20.0
MAX_BYTES = 128 << 10  # what clients take


def nvidia_tokens(command: str) -> Callable[[bytes], tuple[bytes, ...]]:
    """What runs `command`, with a nonce in hex as its last argument, and gives the tokens that it prints (a detached EAT bundle).

    The program may write no file once the node serves. Raises ConfigurationError, and the function AttestationError.
    """
    try:
        words = shlex.split(command)
    except ValueError:
        words = []
    if not words:
        raise ConfigurationError(f"--nvidia-evidence {command!r} is no command")

    def tokens(nonce: bytes) -> tuple[bytes, ...]:
        try:
            done = subprocess.run(
                [*words, nonce.hex()],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                timeout=PROGRAM_S,
                check=False,
                restore_signals=False,  # a write that is forbidden is then refused, and does not end the program
            )
        except OSError as error:
            raise AttestationError(f"{words[0]}: cannot be run: {error.strerror}") from None
        except subprocess.TimeoutExpired:
            raise AttestationError(f"{words[0]} says nothing of the GPUs within {PROGRAM_S:.0f} s") from None
        if done.returncode:
            raise AttestationError(f"{words[0]} ended with code {done.returncode}: it does not vouch for the GPUs")
        return (_bundle(done.stdout, words[0]),)

    return tokens


def _bundle(printed: bytes, program: str) -> bytes:
    """A bundle as it is, or as nvattest has it, among its own conclusions."""
    try:
        document = json.loads(printed)
    except (ValueError, RecursionError):
        document = None
    bundle = document.get("detached_eat") if isinstance(document, dict) else document
    found = json.dumps(bundle, separators=(",", ":")).encode()
    if not isinstance(bundle, list) or not bundle or len(found) > MAX_BYTES:
        raise AttestationError(f"{program} prints no detached bundle of tokens (EAT) of at most {MAX_BYTES >> 10} KiB")
    return found
