"""Calibration text as token ids: what the Hessians are measured on, and a held-out part that only the report sees.

Reads plain text (documents separated by a line `<|endoftext|>`) or a .jsonl file of token-id lists. Knows nothing of models.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from leanto_edge.errors import ArtifactError
from leanto_edge.tokenizer import Tokenizer

SEPARATOR = "\n<|endoftext|>\n"
HELD_OUT_SHARE = 10  # every tenth document is held out
FEWEST_TOKENS = 256
BATCH_ROWS = 16  # documents that go through a model together
_SIZE_LIMIT_BYTES = 1 << 30
_LONGEST_TEXT = 4096  # characters; longer documents are several

Document = tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Calibration:
    """Documents for the Hessians, others for the report, and the SHA-256 of the file they come from."""

    documents: tuple[Document, ...]
    held_out: tuple[Document, ...]
    sha256: str


def read_calibration(
    path: Path, tokenizer: Tokenizer, *, vocab_size: int, longest: int, tokens: int, held_out_tokens: int, seed: int
) -> Calibration:
    """Draw about `tokens` and `held_out_tokens` tokens from the file in documents of at most `longest`, in an order set by `seed`.

    Raises ArtifactError if the file cannot be used or holds too little.
    """
    content = _read(path)
    found = _token_lists(path, content, vocab_size) if path.suffix == ".jsonl" else _texts(path, content)
    order = [int(i) for i in np.random.default_rng(seed).permutation(len(found))]

    def drawn(wanted: Iterable[int]) -> Iterator[Document]:
        for document in (found[i] for i in wanted):
            yield from _cut(tuple(tokenizer.encode(document)) if isinstance(document, str) else document, longest, tokenizer.bos_id)

    held_out = _take(drawn(i for i in order if i % HELD_OUT_SHARE == 0), held_out_tokens)
    chosen = _take(drawn(i for i in order if i % HELD_OUT_SHARE), tokens)
    if sum(map(len, chosen)) < FEWEST_TOKENS or not held_out:
        raise ArtifactError(path, f"is too little calibration text (under {FEWEST_TOKENS} tokens); give more of what the model will read")
    return Calibration(chosen, held_out, hashlib.sha256(content).hexdigest())


def batches(documents: Sequence[Document], rows: int) -> Iterator[list[Document]]:
    """Documents of similar length together, `rows` at a time."""
    ordered = sorted(documents, key=len)
    for at in range(0, len(ordered), rows):
        yield ordered[at : at + rows]


def padded_batch(batch: Sequence[Document]) -> tuple[Any, Any]:
    """Token ids (b, t) int64, padded on the right with 0, and where they are real, (b, t) bool, as torch tensors.

    Causal attention keeps the padding out of the documents.
    """
    ids = torch.zeros(len(batch), max(map(len, batch)), dtype=torch.long)
    real = torch.zeros_like(ids, dtype=torch.bool)
    for row, document in enumerate(batch):
        ids[row, : len(document)] = torch.tensor(document)
        real[row, : len(document)] = True
    return ids, real


def _read(path: Path) -> bytes:
    try:
        if path.stat().st_size > _SIZE_LIMIT_BYTES:
            raise ArtifactError(path, "is larger than 1 GiB; a few megabytes of calibration text are enough")
        return path.read_bytes()
    except OSError as error:
        raise ArtifactError(path, f"cannot be read as calibration text ({error.strerror}); check the path") from None


def _texts(path: Path, content: bytes) -> list[str | Document]:
    """Documents as text, long ones in several pieces that end at white space."""
    try:
        documents = content.decode("utf-8").split(SEPARATOR)
    except UnicodeDecodeError:
        raise ArtifactError(path, "is not UTF-8 text; convert it, or give a .jsonl file of token ids") from None
    pieces: list[str | Document] = []
    for document in map(str.strip, documents):
        at = 0
        while at < len(document):
            end = min(len(document), at + _LONGEST_TEXT)
            space = document.rfind(" ", at, end) if end < len(document) else -1
            end = space if space > at else end
            pieces.append(document[at:end])
            at = end
    return pieces


def _token_lists(path: Path, content: bytes, vocab_size: int) -> list[str | Document]:
    documents: list[str | Document] = []
    for number, line in enumerate(content.splitlines(), start=1):
        if not line.strip():
            continue
        try:
            ids = json.loads(line)
        except (ValueError, RecursionError):
            ids = None
        if not isinstance(ids, list) or not all(type(token) is int and 0 <= token < vocab_size for token in ids):
            raise ArtifactError(path, f"line {number} is not a JSON list of token ids below {vocab_size}; write one list per line")
        documents.append(tuple(ids))
    return documents


def _cut(document: Document, longest: int, bos_id: int | None) -> Iterator[Document]:
    """Pieces of at most `longest` tokens, each with the BOS that the document has; pieces too short to predict anything are dropped."""
    head = document[:1] if bos_id is not None and document[:1] == (bos_id,) else ()
    body, room = document[len(head) :], longest - len(head)
    for piece in (body[at : at + room] for at in range(0, len(body), room)):
        if len(head) + len(piece) >= 2:
            yield (*head, *piece)


def _take(documents: Iterator[Document], tokens: int) -> tuple[Document, ...]:
    taken: list[Document] = []
    count = 0
    while count < tokens and (document := next(documents, None)) is not None:
        taken.append(document)
        count += len(document)
    return tuple(taken)
