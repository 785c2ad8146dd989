"""The training text of the embedded pair, as token ids with loss weights: commands, stories, and simple English as bulk.

Knows the data folder's layout and the augmentation; knows nothing of models or optimisers.
"""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import tokenizers

from leanto_edge.calls import Call, CallForm, CallSchema, normalise

Row = dict[str, Any]
SEPARATOR = "\n<|endoftext|>\n"
BULK = (
    *(f"gutenberg_0{i}" for i in range(4)),
    "african_storybook",
    "pratham",
    "onestop_english",
    "standard_ebooks_children",
)
UTTERANCE_WEIGHT, INTENT_WEIGHT, CALL_WEIGHT, TEXT_WEIGHT = 0.08, 2.0, 1.0, 0.25
CHUNK = 128  # tokens of running text in one row of a batch


@dataclass(frozen=True, slots=True)
class Example:
    """Token ids and the loss weight of predicting each, (n,) and (n,)."""

    ids: list[int]
    weights: list[float]


def rows(data: Path, split: str) -> list[Row]:
    """The assistant commands of one split ("train", "valid", "test")."""
    return [json.loads(line) for line in (data / "nlu" / f"assistant_{split}.jsonl").read_text().splitlines()]


def call_of(row: Row) -> Call:
    """The right call of a row."""
    return Call(row["intent"], row["slots"])


def stories(data: Path, split: str) -> list[str]:
    """Simple stories, "train" or "valid"."""
    return (data / "text" / "tinystories" / f"{split}.txt").read_text().split(SEPARATOR)


def bulk(data: Path) -> list[str]:
    """Passages of simple English."""
    return [passage for name in BULK for passage in (data / "text" / "simple_english" / f"{name}.txt").read_text().split(SEPARATOR)]


def schema_of(train: list[Row]) -> CallSchema:
    """The intents of the training rows, each with the slots it was seen with."""
    intents = sorted({row["intent"] for row in train})
    return CallSchema({name: tuple(sorted({slot for row in train if row["intent"] == name for slot in row["slots"]})) for name in intents})


def example(form: CallForm, row: Row) -> Example | None:
    """A command as one training row; None where a value is no span of the utterance."""
    prompt, target = form.prompt(row["utterance"]), form.target(row["utterance"], call_of(row))
    if target is None:
        return None
    weights = [0.0, 0.0, *[UTTERANCE_WEIGHT] * (len(prompt) - 2), INTENT_WEIGHT, *[CALL_WEIGHT] * (len(target) - 1)]
    return Example(prompt + target, weights)


@dataclass
class Commands:
    """Endless commands. Half of those with slots get other values of the same slot names, so that copying rare names is learnt."""

    form: CallForm
    train: list[Row]
    random: random.Random
    swap: float = 0.5
    bank: dict[str, list[str]] = field(init=False)

    def __post_init__(self) -> None:
        values: dict[str, set[str]] = {}
        for row in self.train:
            for name, said in row["slots"].items():
                values.setdefault(name, set()).update(normalise(value) for value in (said if isinstance(said, list) else [said]))
        self.bank = {name: sorted(said) for name, said in values.items() if len(said) >= 3}

    def __iter__(self) -> Iterator[Example]:
        people = [row for row in self.train if row["source"].startswith("hwu")]  # the many small intents, seen twice
        while True:
            pool = self.train + people
            self.random.shuffle(pool)
            for row in pool:
                swapped = example(self.form, self.swapped(row)) if row["slots"] and self.random.random() < self.swap else None
                found = swapped or example(self.form, row)
                if found is not None:
                    yield found

    def swapped(self, row: Row, chance: float = 0.6) -> Row:
        """`row` with some slot values replaced, in the utterance and in the slots alike."""
        utterance, slots, new = f" {normalise(row['utterance'])} ", {}, []
        for name, said in row["slots"].items():
            values = []
            for value in map(normalise, said if isinstance(said, list) else [said]):
                if self.random.random() < chance and name in self.bank and utterance.count(f" {value} ") == 1:
                    mark = f"\0{len(new)}\0"
                    utterance = utterance.replace(f" {value} ", f" {mark} ")
                    value = self.random.choice(self.bank[name])
                    new.append((mark, value))
                values.append(value)
            slots[name] = values if isinstance(said, list) else values[0]
        for mark, value in new:
            utterance = utterance.replace(mark, value)
        return {**row, "utterance": utterance.strip(), "slots": slots}


def running_text(tokenizer: tokenizers.Tokenizer, texts: list[str], chooser: random.Random) -> Iterator[Example]:
    """Endless rows of CHUNK tokens of whole texts, each between <bos> and <eos>."""
    bos, eos = tokenizer.token_to_id("<bos>"), tokenizer.token_to_id("<eos>")
    texts, waiting = list(texts), []
    while True:
        chooser.shuffle(texts)
        for text in texts:
            waiting += [bos, *tokenizer.encode(text.strip()).ids, eos]
            while len(waiting) >= CHUNK:
                yield Example(waiting[:CHUNK], [TEXT_WEIGHT] * CHUNK)
                del waiting[:CHUNK]


def train_tokenizer(data: Path, schema: CallSchema, size: int = 3072) -> tokenizers.Tokenizer:
    """Byte-level BPE of `size` pieces, special ones included. A word reads the same in an utterance and alone."""
    tokenizer = tokenizers.Tokenizer(tokenizers.models.BPE())
    tokenizer.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=True)
    tokenizer.decoder = tokenizers.decoders.ByteLevel()
    trainer = tokenizers.trainers.BpeTrainer(
        vocab_size=size,
        special_tokens=["<pad>", *schema.special_tokens],
        initial_alphabet=tokenizers.pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )

    def lines() -> Iterator[str]:
        yield from (normalise(row["utterance"]) for row in rows(data, "train"))
        yield from (data / "text" / "tinystories" / "train.txt").open()
        yield from (line for i, line in enumerate((data / "text" / "simple_english" / "gutenberg_00.txt").open()) if i % 4 == 0)

    tokenizer.train_from_iterator(lines(), trainer)
    tokenizer.encode_special_tokens = True
    return tokenizer
