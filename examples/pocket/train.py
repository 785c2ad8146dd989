"""Trains one of the embedded pair within a time budget: `python train.py pocket --data DATA --out OUT --minutes 80`.

The first fifth of the time reads stories and simple English; the rest is seven eighths commands. The learning rate falls to zero
exactly when the time is up; what is exported is the moving average of the weights. One process, one thread by default.
"""

from __future__ import annotations

import argparse
import random
import time
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path

import corpus
import torch
import torch.nn.functional as F
from model import SIZES, Decoder, export
from torch import Tensor

from leanto_edge.calls import CallForm

PRETRAINING = 0.2  # share of the time
COMMANDS = 0.87  # share of batches after it
POOL = 1200  # commands sorted by length together, so that batches need little padding
AVERAGE = 0.998  # decay of the moving average

Batch = tuple[Tensor, Tensor]  # ids and loss weights, (rows, tokens) each


def main() -> None:
    """Train and export."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("name", choices=SIZES)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--minutes", type=float, default=90.0)
    parser.add_argument("--batch-tokens", type=int, default=3072)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    torch.manual_seed(args.seed)
    chooser = random.Random(args.seed)
    train_rows = corpus.rows(args.data, "train")
    schema = corpus.schema_of(train_rows)
    tokenizer = corpus.train_tokenizer(args.data, schema)
    form = CallForm(schema, tokenizer)
    size = SIZES[args.name]
    decoder = Decoder(size, tokenizer.get_vocab_size())
    print(f"{args.name}: {sum(p.numel() for p in decoder.parameters()) / 1e6:.2f} M parameters", flush=True)
    checks = [found for row in corpus.rows(args.data, "valid") if (found := corpus.example(form, row))]
    special = {token: tokenizer.token_to_id(token) for token in ("<pad>", "<bos>", "<eos>")}

    def save(average: dict[str, Tensor]) -> None:
        export(average, size, special, args.out)
        tokenizer.save(str(args.out / "tokenizer.json"))
        (args.out / "calls.json").write_text(schema.to_json())

    commands = command_batches(iter(corpus.Commands(form, train_rows, chooser)), args.batch_tokens, chooser)
    tales = text_batches(corpus.running_text(tokenizer, corpus.stories(args.data, "train"), chooser), args.batch_tokens)
    bulk = text_batches(corpus.running_text(tokenizer, corpus.bulk(args.data), chooser), args.batch_tokens)

    def next_batch(progress: float) -> Batch:
        if progress < PRETRAINING:
            return next(tales if chooser.random() < 0.45 else bulk)
        return next(commands) if chooser.random() < COMMANDS else next(tales if chooser.random() < 0.8 else bulk)

    fit(decoder, next_batch, checks, save, args.minutes * 60, size.learning_rate)


def fit(
    decoder: Decoder,
    next_batch: Callable[[float], Batch],
    checks: list[corpus.Example],
    save: Callable[[dict[str, Tensor]], None],
    seconds: float,
    peak: float,
) -> None:
    """Train for `seconds`; every few minutes print the validation scores and save the average."""
    matrices = [p for p in decoder.parameters() if p.dim() == 2]
    vectors = [p for p in decoder.parameters() if p.dim() < 2]
    groups = [{"params": matrices, "weight_decay": 0.1}, {"params": vectors, "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(groups, lr=peak, betas=(0.9, 0.98), eps=1e-9)
    average = {name: weight.detach().clone() for name, weight in decoder.named_parameters()}
    start, report, step = time.monotonic(), 240.0, 0
    while (passed := time.monotonic() - start) < seconds:
        progress = passed / seconds
        for group in optimizer.param_groups:
            group["lr"] = peak * min(1.0, (step + 1) / 100) * min(0.7, 1 - progress)
        loss = weighted_loss(decoder, *next_batch(progress))
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(decoder.parameters(), 1.0)
        optimizer.step()
        step += 1
        with torch.no_grad():
            for name, weight in decoder.named_parameters():
                average[name].lerp_(weight, 1 - min(AVERAGE, step / (step + 50)))
        if passed > report:
            report = passed + 240.0
            intent, exact = teacher_forced(decoder, checks)
            print(f"{passed / 60:5.1f} min  step {step}  loss {loss.item():.3f}  valid intent {intent:.3f} exact {exact:.3f}", flush=True)
            save(average)
    decoder.load_state_dict({**decoder.state_dict(), **average})
    print(f"done: {step} steps, valid intent and exact match (teacher-forced) {teacher_forced(decoder, checks)}", flush=True)
    save(average)


def weighted_loss(decoder: Decoder, ids: Tensor, weights: Tensor) -> Tensor:
    """Mean cross-entropy (nats) by weight, computed only where there is one."""
    weights = weights[:, 1:]
    kept = weights > 0
    with torch.autocast("cpu", torch.bfloat16):
        logits = decoder.head(decoder(ids)[:, :-1][kept])
    losses = F.cross_entropy(logits.float(), ids[:, 1:][kept], reduction="none")
    return (losses * weights[kept]).sum() / weights[kept].sum()


@torch.no_grad()
def teacher_forced(decoder: Decoder, checks: list[corpus.Example]) -> tuple[float, float]:
    """Share of right intents and of answers whose every token is the best one, without any constraint."""
    decoder.eval()
    intents = exact = 0
    for i in range(0, len(checks), 50):
        ids, weights = pad(checks[i : i + 50])
        best = decoder.head(decoder(ids)).argmax(-1)[:, :-1]
        wrong = (best != ids[:, 1:]) & (weights[:, 1:] >= corpus.CALL_WEIGHT)
        exact += int((~wrong.any(1)).sum())
        intents += int((~(wrong & (weights[:, 1:] == corpus.INTENT_WEIGHT)).any(1)).sum())
    decoder.train()
    return intents / len(checks), exact / len(checks)


def pad(examples: list[corpus.Example]) -> Batch:
    """Rows of one length; padding has weight zero."""
    longest = max(len(example.ids) for example in examples)
    ids = torch.tensor([example.ids + [0] * (longest - len(example.ids)) for example in examples])
    return ids, torch.tensor([example.weights + [0.0] * (longest - len(example.weights)) for example in examples])


def command_batches(commands: Iterator[corpus.Example], tokens: int, chooser: random.Random) -> Iterator[Batch]:
    """Batches of about `tokens` tokens, of commands of like length."""
    while True:
        batches: list[list[corpus.Example]] = [[]]
        for example in sorted(islice(commands, POOL), key=lambda e: len(e.ids)):
            if batches[-1] and (len(batches[-1]) + 1) * len(example.ids) > tokens:
                batches.append([])
            batches[-1].append(example)
        chooser.shuffle(batches)
        yield from map(pad, batches)


def text_batches(chunks: Iterator[corpus.Example], tokens: int) -> Iterator[Batch]:
    """Batches of running text."""
    while True:
        yield pad(list(islice(chunks, tokens // corpus.CHUNK)))


if __name__ == "__main__":
    main()
