"""Trains one of the embedded pair within a time budget: `python train.py pocket --data DATA --out OUT --minutes 80`.

The first part of the time reads stories and simple English; the rest is mostly commands. The learning rate falls to zero
exactly when the time is up; what is exported is the moving average of the weights. One process, one thread by default.
"""

from __future__ import annotations

import argparse
import random
import time
from collections.abc import Callable
from pathlib import Path

import corpus
import numpy as np
import torch
import torch.nn.functional as F
from model import CONTEXT, SIZES, Decoder, export, grow, read_weights
from packing import Batch, batches
from tokenizers import Tokenizer
from torch import Tensor

from leanto_edge.calls import CallForm

COMMANDS = 0.86  # share of batches after pre-training
STORIES = 0.75  # of the others; the rest is simple English
AVERAGE = 0.999  # decay of the moving average
WARMUP = 150  # steps
REPORT_S = 240.0
Weights = dict[str, Tensor]


def main() -> None:
    """Train and export."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("name", choices=SIZES)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--minutes", type=float, default=90.0)
    parser.add_argument("--pretraining", type=float, default=0.2, help="share of the time (0 to 1) that only reads")
    parser.add_argument("--start", type=Path, help="exported folder to start from, with its tokenizer")
    parser.add_argument("--grow", type=Path, help="exported folder of pocket to grow out of, with its tokenizer")
    parser.add_argument("--teacher", type=Path, help="what teacher.py wrote")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    torch.manual_seed(args.seed)
    chooser, numbers = random.Random(args.seed), np.random.default_rng(args.seed)
    train_rows = corpus.rows(args.data, "train")
    schema = corpus.schema_of(train_rows)
    before = args.start or args.grow
    tokenizer = Tokenizer.from_file(str(before / "tokenizer.json")) if before else corpus.train_tokenizer(args.data, schema)
    form = CallForm(schema, tokenizer)
    size = SIZES[args.name]
    decoder = Decoder(size, tokenizer.get_vocab_size())
    if args.start:
        decoder.load_state_dict(read_weights(args.start))
    elif args.grow:
        grow(read_weights(args.grow), SIZES["pocket"], decoder)
    print(f"{args.name}: {sum(p.numel() for p in decoder.parameters()) / 1e6:.2f} M parameters", flush=True)

    teacher = np.load(args.teacher)["probabilities"] if args.teacher else None
    spoken = batches(iter(corpus.Commands(form, train_rows, chooser, teacher)), 48, 64, 1536, numbers)
    tales, passages = (
        batches(corpus.running_text(tokenizer, texts, chooser, CONTEXT), 6, CONTEXT, 2560, numbers, pool=60)
        for texts in (corpus.stories(args.data, "train"), corpus.bulk(args.data))
    )

    def next_batch(progress: float) -> Batch:
        if progress < args.pretraining:
            return next(tales if chooser.random() < 0.45 else passages)
        if chooser.random() < COMMANDS:
            return next(spoken)
        return next(tales if chooser.random() < STORIES else passages)

    held_out = [found for row in corpus.rows(args.data, "valid") if (found := corpus.example(form, row))]
    special = {token: tokenizer.token_to_id(token) for token in ("<pad>", "<bos>", "<eos>")}

    def report(average: Weights) -> str:
        export(average, size, special, args.out)
        tokenizer.save(str(args.out / "tokenizer.json"))
        (args.out / "calls.json").write_text(schema.to_json())
        judge = Decoder(size, tokenizer.get_vocab_size())
        judge.load_state_dict(average)
        return "valid intent {:.4f} exact {:.4f} (teacher-forced)".format(*teacher_forced(judge, held_out))

    Trainer(decoder, next_batch, report).fit(args.minutes * 60)


class Trainer:
    """Fits a decoder to batches in a given time."""

    def __init__(self, decoder: Decoder, next_batch: Callable[[float], Batch], report: Callable[[Weights], str]) -> None:
        self.decoder, self.next_batch, self.report = decoder, next_batch, report
        matrices = [p for p in decoder.parameters() if p.dim() == 2]
        vectors = [p for p in decoder.parameters() if p.dim() < 2]
        groups = [{"params": matrices, "weight_decay": 0.1}, {"params": vectors, "weight_decay": 0.0}]
        self.optimizer = torch.optim.AdamW(groups, lr=decoder.size.learning_rate, betas=(0.9, 0.98), eps=1e-9, fused=True)
        self.average = {name: weight.detach().clone() for name, weight in decoder.named_parameters()}
        self.noise = Noise(decoder.size.dropout)
        self.loss = torch.compile(self._loss, dynamic=False)
        self.steps = 0

    def fit(self, seconds: float) -> None:
        """Train for `seconds` of wall-clock time after compilation; every few minutes report on the moving average and save it."""
        for progress in (0.0, 0.99) * 12:
            self._loss_of(self.next_batch(progress)).backward()  # compile for both shapes before the clock starts
        start, reported, losses = time.monotonic(), 0.0, 0.0
        while (passed := time.monotonic() - start) < seconds:
            losses = 0.98 * losses + 0.02 * self.step(passed / seconds)
            if passed > reported + REPORT_S:
                reported = passed
                smooth = losses / (1 - 0.98**self.steps)
                print(f"{passed / 60:5.1f} min  step {self.steps}  loss {smooth:.3f}  {self.report(self.average)}", flush=True)
        print(f"done: {self.steps} steps, {self.report(self.average)}", flush=True)

    def step(self, progress: float) -> float:
        """One update; the loss (nats)."""
        for group in self.optimizer.param_groups:
            group["lr"] = self.decoder.size.learning_rate * min(1.0, (self.steps + 1) / WARMUP) * min(1.0, 1.15 * (1 - progress))
        self.optimizer.zero_grad(set_to_none=True)
        loss = self._loss_of(self.next_batch(progress))
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.decoder.parameters(), 1.0)
        self.optimizer.step()
        self.steps += 1
        weights = [weight.detach() for weight in self.decoder.parameters()]
        torch._foreach_lerp_(list(self.average.values()), weights, 1 - min(AVERAGE, self.steps / (self.steps + 50)))
        return loss.item()

    def _loss_of(self, batch: Batch) -> Tensor:
        noise = self.noise.masks(2 * self.decoder.size.layers, batch.ids.numel() * self.decoder.size.hidden)
        return self.loss(batch.ids, batch.positions, batch.segments, batch.keep, batch.labels, batch.weights, noise)

    def _loss(
        self, ids: Tensor, positions: Tensor, segments: Tensor, keep: Tensor, labels: Tensor, weights: Tensor, noise: list[Tensor] | None
    ) -> Tensor:
        with torch.autocast("cpu", torch.bfloat16):
            hidden = self.decoder(ids, positions, segments, noise)
            logits = self.decoder.head(hidden.flatten(0, 1)[keep])
        losses = F.cross_entropy(logits.float(), labels, reduction="none")
        return (losses * weights).sum() / weights.sum()


class Noise:
    """Dropout masks cut at random from one long stretch of random numbers: drawing new ones each step would cost a third of it."""

    def __init__(self, chance: float, size: int = 1 << 23) -> None:
        self.pool = (torch.rand(size) >= chance).to(torch.bfloat16) / (1 - chance) if chance else None

    def masks(self, count: int, size: int) -> list[Tensor] | None:
        """`count` masks (size,) bfloat16, or None without dropout."""
        if self.pool is None:
            return None
        starts = torch.randint((len(self.pool) - size) // 64, (count,)).tolist()
        return [self.pool[64 * at : 64 * at + size] for at in starts]


@torch.no_grad()
def teacher_forced(decoder: Decoder, examples: list[corpus.Example]) -> tuple[float, float]:
    """Share of right intents and of answers whose every token is the best one, without any constraint."""
    intents = exact = 0
    for i in range(0, len(examples), 50):
        group = examples[i : i + 50]
        longest = max(len(example.ids) for example in group)
        ids = torch.tensor([example.ids + [0] * (longest - len(example.ids)) for example in group])
        weights = torch.tensor([example.weights + [0.0] * (longest - len(example.ids)) for example in group])[:, 1:]
        positions = torch.arange(longest).expand_as(ids)
        best = decoder.head(decoder(ids, positions, torch.zeros_like(ids))).argmax(-1)[:, :-1]
        wrong = (best != ids[:, 1:]) & (weights >= corpus.CALL_WEIGHT)
        exact += int((~wrong.any(1)).sum())
        intents += int((~(wrong & (weights == corpus.INTENT_WEIGHT)).any(1)).sum())
    return intents / len(examples), exact / len(examples)


if __name__ == "__main__":
    main()
