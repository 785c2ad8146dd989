"""What a compression gained and cost: bytes really stored, perplexity and KL divergence on held-out text, the error of each matrix.

Compares two torch models; knows nothing of how the second was made.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from leanto_edge.compress.calibration import Document, batches, padded_batch
from leanto_edge.compress.report_page import page
from leanto_edge.errors import ArtifactError

FIT_AGREEMENT = 0.5  # of the likeliest token: a student that differs from its teacher in most words is another model
FIT_KL = 1.0  # nats per token: beyond it the student's probabilities say nothing of the teacher's
_BATCH_ROWS = 8
_MOST_LOGITS = 1 << 26  # in memory at once, 256 MB
_RESAMPLES = 1000
_MOST_NATS = 700.0  # its exponential is still a number


@dataclass(frozen=True, slots=True)
class Quality:
    """Teacher against compressed model on held-out tokens. KL in nats per token, teacher to student; agreement of the likeliest token.

    `perplexity_interval`: 95 % of the perplexity after, by bootstrap over documents. `fit`: fit for use, see FIT_AGREEMENT and FIT_KL.
    """

    tokens: int
    perplexity_before: float
    perplexity_after: float
    perplexity_interval: tuple[float, float]
    kl_mean: float
    kl_p99: float
    top1_agreement: float
    fit: bool


@dataclass(frozen=True, slots=True)
class MatrixReport:
    """One matrix: how it is stored, its bytes with scales, tables and factors, and its relative error tr(E H Eᵀ) / tr(W H Wᵀ).

    `kl_share`: what part of the expected divergence it causes, where that was measured.
    """

    name: str
    kind: str
    bits: int
    rank: int
    factor_bits: int
    rows: int
    cols: int
    stored_bytes: int
    error: float
    kl_share: float | None

    @property
    def form(self) -> str:
        """In words: 2 bits trellis + rank 8."""
        factors = f" + rank {self.rank} x{self.factor_bits}" if self.rank else ""
        return "float" if self.kind == "dense" else f"{self.bits} {'bit' if self.bits == 1 else 'bits'} {self.kind}{factors}"


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

    def write(self, directory: Path) -> None:
        """Add report.json and report.html to an artifact; they are for people, and no hash covers them. Raises ArtifactError."""
        try:
            (directory / "report.json").write_text(json.dumps(self.as_dict(), indent=1) + "\n", encoding="utf-8")
            (directory / "report.html").write_text(page(self.as_dict()), encoding="utf-8")
        except OSError as error:
            raise ArtifactError(directory, f"is whole and can be used, but its report cannot be written ({error.strerror})") from None

    def as_dict(self) -> dict[str, Any]:
        """All of it as JSON values."""
        return asdict(self)

    def table(self) -> str:
        """What it gained and cost for a terminal: a few lines, then each matrix."""
        quality, (low, high) = self.quality, self.quality.perplexity_interval
        before, after = quality.perplexity_before, quality.perplexity_after
        rows = (
            ("parameters", f"{self.parameters:,}"),
            ("stored", f"{self.stored_bytes:,} bytes, {self.bits_per_weight:.2f} bits per weight"),
            ("perplexity", f"{before:.4f} → {after:.4f} ({100 * (after / before - 1):+.2f} %), 95 %: {low:.4f} to {high:.4f}"),
            ("held out", f"{quality.tokens:,} tokens"),
            ("KL divergence", f"{quality.kl_mean:.5f} nats per token, 99th percentile {quality.kl_p99:.4f}"),
            ("top-1 agreement", f"{100 * quality.top1_agreement:.2f} %"),
            *((("before recovery", f"KL {self.untuned.kl_mean:.5f}"),) if self.untuned else ()),
            ("build", self.build_hash),
        )
        width = max(len(matrix.name) for matrix in self.matrices)
        lines = [f"{label:<16} {value}" for label, value in rows]
        lines += ["", f"{'matrix':<{width}}  {'stored as':<22} {'bytes':>11} {'error':>8} {'of KL':>7}"]
        lines += [
            f"{matrix.name:<{width}}  {matrix.form:<22} {matrix.stored_bytes:>11,} {matrix.error:>8.5f} "
            + ("" if matrix.kl_share is None else f"{100 * matrix.kl_share:>5.1f} %")
            for matrix in self.matrices
        ]
        return "\n".join(line.rstrip() for line in lines)


def measure_quality(teacher: Any, student: Any, documents: Sequence[Document], step: Callable[[int], None] = lambda _: None) -> Quality:
    """Run both models over the documents; `step` hears how many documents are done."""
    losses: list[tuple[Any, Any, int]] = []  # of each document: before, after, tokens
    divergences: list[Any] = []
    agreements = tokens = done = 0
    rows = _MOST_LOGITS // (teacher.config.vocab_size * max(map(len, documents)))
    for batch in batches(documents, min(max(rows, 1), _BATCH_ROWS)):
        before, after, targets = log_probabilities(teacher, batch), log_probabilities(student, batch), _targets(batch)
        lengths = [len(document) - 1 for document in batch]
        losses += zip(*(_losses(side, targets, lengths) for side in (before, after)), lengths, strict=True)
        divergences.append((before.exp() * (before - after)).sum(-1).clamp_min(0.0).numpy())
        agreements += int((before.argmax(-1) == after.argmax(-1)).sum())
        tokens += len(targets)
        done += len(batch)
        step(done)
    found, sums = np.concatenate(divergences), np.array(losses, np.float64)
    kl = np.nan_to_num(found, nan=_MOST_NATS, posinf=_MOST_NATS)  # JSON has neither
    before_loss, after_loss = sums[:, 0].sum() / tokens, sums[:, 1].sum() / tokens
    kl_mean, agreement = float(kl.mean(dtype=np.float64)), agreements / tokens
    return Quality(
        tokens=tokens,
        perplexity_before=_exp(before_loss),
        perplexity_after=_exp(after_loss),
        perplexity_interval=_interval(sums[:, 1], sums[:, 2]),
        kl_mean=kl_mean,
        kl_p99=float(np.quantile(kl, 0.99)),
        top1_agreement=agreement,
        fit=bool(agreement >= FIT_AGREEMENT and kl_mean <= FIT_KL and np.isfinite(found).all()),
    )


def log_probabilities(model: Any, batch: Sequence[Document], *, learning: bool = False) -> Any:
    """Log-probabilities (predictions, vocab) float32 of every next token of the batch, padding left out; differentiable if `learning`."""
    ids, real = padded_batch(batch)
    with torch.set_grad_enabled(learning):
        logits = model(ids, use_cache=False).logits[:, :-1]
        return torch.log_softmax(logits[real[:, 1:]].float(), dim=-1)


def _targets(batch: Sequence[Document]) -> Any:
    return torch.tensor([token for document in batch for token in document[1:]])


def _losses(log_probabilities: Any, targets: Any, lengths: Sequence[int]) -> list[float]:
    """Of each document, in nats."""
    found = -log_probabilities.gather(1, targets[:, None])[:, 0].double()
    return [float(part.sum()) for part in torch.split(found, list(lengths))]


def _interval(losses: NDArray[np.float64], tokens: NDArray[np.float64]) -> tuple[float, float]:
    """Perplexities between which 95 % of the bootstrap samples of the documents lie."""
    drawn = np.random.default_rng(0).integers(len(losses), size=(_RESAMPLES, len(losses)))
    means = losses[drawn].sum(axis=1) / tokens[drawn].sum(axis=1)
    low, high = np.quantile(means, (0.025, 0.975))
    return _exp(low), _exp(high)


def _exp(loss: float) -> float:
    return math.exp(loss if loss < _MOST_NATS else _MOST_NATS)  # NaN too becomes the largest
