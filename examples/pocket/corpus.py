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

import numpy as np
import tokenizers
from numpy.typing import NDArray

from leanto_edge.calls import Call, CallForm, CallSchema, SlotValue, normalise

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


@dataclass(frozen=True, slots=True)
class Example:
    """Token ids, what to predict at each place (the ids, but for a softened intent), and the loss weight of it; (n,) each."""

    ids: list[int]
    labels: list[int]
    weights: list[float]


def rows(data: Path, split: str) -> list[Row]:
    """The assistant commands of one split ("train", "valid", "test")."""
    return [json.loads(line) for line in (data / "nlu" / f"assistant_{split}.jsonl").read_text().splitlines()]


def call_of(row: Row) -> Call:
    """The right call of a row."""
    return Call(row["intent"], row["slots"])


def listed(said: SlotValue) -> list[str]:
    """The values of a slot, said once or more often."""
    return said if isinstance(said, list) else [said]


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
    return Example(prompt + target, prompt + target, weights)


@dataclass
class Commands:
    """Endless commands.

    Half of those with slots get other values of the same slot names, some of them names that nobody has, so that copying is learnt;
    some lose a word that no slot needs. `teacher` (rows, intents): a second opinion on the intent of each row (see teacher.py), from which
    the label is drawn in `trust` of the cases.
    """

    form: CallForm
    train: list[Row]
    random: random.Random
    teacher: NDArray[np.float16] | None = None
    trust: float = 0.25
    swap: float = 0.5
    novel: float = 0.2
    shorten: float = 0.15
    bank: dict[str, list[str]] = field(init=False)

    def __post_init__(self) -> None:
        values: dict[str, set[str]] = {}
        for row in self.train:
            for name, said in row["slots"].items():
                values.setdefault(name, set()).update(map(normalise, listed(said)))
        self.bank = {name: sorted(said) for name, said in values.items() if len(said) >= 3}
        self.opinions = None if self.teacher is None else self.teacher.astype(np.float64).cumsum(1)

    def __iter__(self) -> Iterator[Example]:
        intents = [self.form.intents[name] for name in sorted(self.form.schema.intents)]
        people = [i for i, row in enumerate(self.train) if row["source"].startswith("hwu")]  # the many small intents, seen twice
        plain = [example(self.form, row) for row in self.train]
        while True:
            pool = [*range(len(self.train)), *people]
            self.random.shuffle(pool)
            for i in pool:
                found = self.varied(self.train[i]) or plain[i]
                if found is None:
                    continue
                if self.opinions is not None and self.random.random() < self.trust:
                    opinion = intents[min(int(np.searchsorted(self.opinions[i], self.random.random())), len(intents) - 1)]
                    labels = [opinion if token in self.form.intent_of else token for token in found.ids]
                    found = Example(found.ids, labels, found.weights)
                yield found

    def varied(self, row: Row) -> Example | None:
        """Another way to say `row`, or None for the row as it is."""
        other = self.swapped(row) if row["slots"] and self.random.random() < self.swap else row
        if self.random.random() < self.shorten:
            other = self.shortened(other)
        return None if other is row else example(self.form, other)

    def shortened(self, row: Row) -> Row:
        """`row` without a few of the words that stand in no slot value."""
        kept = {word for said in row["slots"].values() for value in listed(said) for word in normalise(value).split()}
        words = normalise(row["utterance"]).split()
        words = [word for word in words if word in kept or self.random.random() > 0.12] or words
        return {**row, "utterance": " ".join(words)}

    def value(self, name: str) -> str:
        """A value for a slot; where there are many, sometimes a new one made of the words of two."""
        bank = self.bank[name]
        if len(bank) < 100 or self.random.random() > self.novel:
            return self.random.choice(bank)
        words = (self.random.choice(bank) + " " + self.random.choice(bank)).split()
        self.random.shuffle(words)
        return " ".join(words[: self.random.randint(1, min(5, len(words)))])

    def swapped(self, row: Row, chance: float = 0.6) -> Row:
        """`row` with some slot values replaced, in the utterance and in the slots alike."""
        utterance, slots, new = f" {normalise(row['utterance'])} ", {}, []
        for name, said in row["slots"].items():
            values = []
            for value in map(normalise, listed(said)):
                if self.random.random() < chance and name in self.bank and utterance.count(f" {value} ") == 1:
                    mark = f"\0{len(new)}\0"
                    utterance = utterance.replace(f" {value} ", f" {mark} ")
                    value = self.value(name)
                    new.append((mark, value))
                values.append(value)
            slots[name] = values if isinstance(said, list) else values[0]
        for mark, value in new:
            utterance = utterance.replace(mark, value)
        return {**row, "utterance": utterance.strip(), "slots": slots}


def running_text(tokenizer: tokenizers.Tokenizer, texts: list[str], chooser: random.Random, longest: int) -> Iterator[Example]:
    """Endless texts between <bos> and <eos>, cut into pieces of at most `longest` tokens; each piece begins with <bos>."""
    bos, eos = tokenizer.token_to_id("<bos>"), tokenizer.token_to_id("<eos>")
    texts = list(texts)
    while True:
        chooser.shuffle(texts)
        for text in texts:
            ids = [*tokenizer.encode(text.strip()).ids, eos]
            for at in range(0, len(ids), longest - 1):
                piece = [bos, *ids[at : at + longest - 1]]
                if len(piece) >= 8:
                    yield Example(piece, piece, [0.0, *[TEXT_WEIGHT] * (len(piece) - 1)])


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
