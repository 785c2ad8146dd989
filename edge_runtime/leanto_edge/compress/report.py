"""What a compression gained and cost: bytes really stored, perplexity and KL divergence on held-out text, the error of each matrix.

Compares two torch models; knows nothing of how the second was made.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch

from leanto_edge.compress.calibration import Document, batches, padded_batch

_BATCH_ROWS = 8


@dataclass(frozen=True, slots=True)
class Quality:
    """Teacher against compressed model on held-out tokens. KL in nats per token, teacher to student; agreement of the likeliest token."""

    tokens: int
    perplexity_before: float
    perplexity_after: float
    kl_mean: float
    kl_p99: float
    top1_agreement: float


@dataclass(frozen=True, slots=True)
class MatrixReport:
    """One matrix: how it is stored, its bytes with scales, tables and factors, and its relative error tr(E H Eᵀ) / tr(W H Wᵀ)."""

    name: str
    kind: str
    bits: int
    rank: int
    rows: int
    cols: int
    stored_bytes: int
    error: float


@dataclass(frozen=True, slots=True)
class Report:
    """The result of `compress`. `stored_bytes` counts every file but the manifest, `bits_per_weight` the whole weight file.

    `untuned`: the quality before recovery, if there was one.
    """

    name: str
    build_hash: str
    parameters: int
    stored_bytes: int
    bits_per_weight: float
    quality: Quality
    untuned: Quality | None
    matrices: tuple[MatrixReport, ...]
    seconds: float

    def as_dict(self) -> dict[str, Any]:
        """All of it as JSON values."""
        return asdict(self)

    def table(self) -> str:
        """A few lines for a terminal."""
        quality, worst = self.quality, max(self.matrices, key=lambda matrix: matrix.error)
        before, after = quality.perplexity_before, quality.perplexity_after
        rows = (
            ("parameters", f"{self.parameters:,}"),
            ("stored", f"{self.stored_bytes:,} bytes, {self.bits_per_weight:.2f} bits per weight"),
            ("perplexity", f"{before:.4f} → {after:.4f} ({100 * (after / before - 1):+.2f} %), {quality.tokens:,} held-out tokens"),
            ("KL divergence", f"{quality.kl_mean:.5f} nats per token, 99th percentile {quality.kl_p99:.4f}"),
            ("top-1 agreement", f"{100 * quality.top1_agreement:.2f} %"),
            ("worst matrix", f"{worst.name}: relative error {worst.error:.5f} at {worst.bits} bits"),
            ("build", self.build_hash),
        )
        return "\n".join(f"{label:<16} {value}" for label, value in rows)


def measure_quality(teacher: Any, student: Any, documents: Sequence[Document], step: Callable[[int], None] = lambda _: None) -> Quality:
    """Run both models over the documents; `step` hears how many documents are done."""
    losses: list[tuple[float, float]] = []
    divergences: list[Any] = []
    agreements = tokens = done = 0
    for batch in batches(documents, _BATCH_ROWS):
        before, after, targets = log_probabilities(teacher, batch), log_probabilities(student, batch), _targets(batch)
        losses.append((_loss(before, targets), _loss(after, targets)))
        divergences.append((before.exp() * (before - after)).sum(-1).clamp_min(0.0).numpy())
        agreements += int((before.argmax(-1) == after.argmax(-1)).sum())
        tokens += len(targets)
        done += len(batch)
        step(done)
    kl = np.concatenate(divergences)
    before_loss, after_loss = (sum(side) / tokens for side in zip(*losses, strict=True))
    return Quality(
        tokens=tokens,
        perplexity_before=math.exp(before_loss),
        perplexity_after=_exp(after_loss),
        kl_mean=float(kl.mean(dtype=np.float64)),
        kl_p99=float(np.quantile(kl, 0.99)),
        top1_agreement=agreements / tokens,
    )


def log_probabilities(model: Any, batch: Sequence[Document], *, learning: bool = False) -> Any:
    """Log-probabilities (predictions, vocab) float32 of every next token of the batch, padding left out; differentiable if `learning`."""
    ids, real = padded_batch(batch)
    with torch.set_grad_enabled(learning):
        logits = model(ids, use_cache=False).logits[:, :-1]
        return torch.log_softmax(logits[real[:, 1:]].float(), dim=-1)


def _targets(batch: Sequence[Document]) -> Any:
    return torch.tensor([token for document in batch for token in document[1:]])


def _loss(log_probabilities: Any, targets: Any) -> float:
    return -float(log_probabilities.gather(1, targets[:, None]).double().sum())


def _exp(loss: float) -> float:
    return math.exp(min(loss, 700.0))  # JSON has no infinity
