"""The call form: how an utterance becomes a prompt, and how a model's tokens become one JSON call.

    <bos><user> utterance <call><intent:NAME>(<slot:NAME> value)*<eos>

A value repeats a span of the utterance, so a model cannot invent a name that was not said; the JSON is built from the tokens.
Training, the engine and every node share this file. Knows nothing of models, sampling or networks.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, TypeAlias

import numpy as np
import tokenizers
from numpy.typing import NDArray

BOS, EOS, USER, CALL = "<bos>", "<eos>", "<user>", "<call>"
OUT_OF_SCOPE = "none"
MAX_SLOTS = 12  # more than anyone says in one breath; a bound, so that every call ends
CLOSING = ".?! "
SPACE = "Ġ"  # how byte-level pieces write it

SlotValue: TypeAlias = str | list[str]
_NONE: Mapping[str, int] = MappingProxyType({})


@dataclass(frozen=True, slots=True)
class CallSchema:
    """Which intents there are, and which slots each may carry: what `calls.json` holds."""

    intents: Mapping[str, tuple[str, ...]]

    @classmethod
    def from_json(cls, text: str) -> CallSchema:
        """Read `calls.json`. Raises ValueError where it is not a schema."""
        try:
            intents = json.loads(text)["intents"]
            schema = cls({str(name): tuple(map(str, slots)) for name, slots in intents.items()})
        except (KeyError, TypeError, AttributeError, RecursionError, json.JSONDecodeError) as error:
            raise ValueError(f"not a call schema ({error!r:.200})") from None
        if not schema.intents:
            raise ValueError("the call schema has no intents")
        return schema

    def to_json(self) -> str:
        """The text of `calls.json`."""
        return json.dumps({"intents": {name: list(slots) for name, slots in self.intents.items()}}, indent=1) + "\n"

    @property
    def slots(self) -> tuple[str, ...]:
        """All slot names, sorted."""
        return tuple(sorted({slot for slots in self.intents.values() for slot in slots}))

    @property
    def special_tokens(self) -> tuple[str, ...]:
        """The tokens that a tokenizer must have for this schema, in the order of their ids."""
        return (BOS, EOS, USER, CALL, *(f"<intent:{name}>" for name in self.intents), *(f"<slot:{name}>" for name in self.slots))


@dataclass(frozen=True, slots=True)
class Call:
    """One call: an intent and its slots. A slot said more than once holds a list."""

    intent: str
    slots: Mapping[str, SlotValue]

    def to_dict(self) -> dict[str, Any]:
        """The call as the app gets it; out of scope has no slots at all."""
        return {"intent": self.intent} if self.intent == OUT_OF_SCOPE else {"intent": self.intent, "slots": dict(self.slots)}

    def to_json(self) -> str:
        """The call as one line of JSON."""
        return json.dumps(self.to_dict(), ensure_ascii=False)


def normalise(utterance: str) -> str:
    """Lower case, single spaces, no closing punctuation: how the training utterances are written."""
    return " ".join(utterance.lower().split()).rstrip(CLOSING)


class CallForm:
    """A schema bound to a byte-level tokenizer that has its special tokens (ValueError if it is another or does not).

    `spelled`: intents that came after the tokenizer, each with the piece of ordinary text that stands for it right after <call>.
    """

    def __init__(self, schema: CallSchema, tokenizer: tokenizers.Tokenizer, spelled: Mapping[str, int] = _NONE) -> None:
        wanted = [token for token in schema.special_tokens if token not in {f"<intent:{name}>" for name in spelled}]
        ids = {token: at for token in wanted if (at := tokenizer.token_to_id(token)) is not None}
        missing = [token for token in wanted if token not in ids]
        if missing:
            raise ValueError(f"the tokenizer lacks {missing[0]} (and {len(missing) - 1} more) of the call schema")
        added = tokenizer.get_added_tokens_decoder()
        plain = [token for token, at in ids.items() if at not in added or not added[at].special]
        if plain:
            raise ValueError(f"{plain[0]} is not a special token of the tokenizer, so an utterance could contain it")
        _check_spelled(spelled, schema, tokenizer, added)
        self.schema = schema
        self.tokenizer = tokenizer
        tokenizer.encode_special_tokens = True  # what a user types is text, whatever it looks like
        self.bos, self.eos, self.user, self.call = ids[BOS], ids[EOS], ids[USER], ids[CALL]
        self.intents = {name: spelled[name] if name in spelled else ids[f"<intent:{name}>"] for name in schema.intents}
        self.slots = {name: ids[f"<slot:{name}>"] for name in schema.slots}
        self.intent_of = {token: name for name, token in self.intents.items()}
        self._never_said = {token for token, name in self.intent_of.items() if name not in spelled}
        self.slot_of = {token: name for name, token in self.slots.items()}
        if not any(piece.startswith(SPACE) for piece in self._spoken("a b").tokens[1:]):
            raise ValueError("the tokenizer of a call schema must be byte-level; slot values start at its spaces")

    def prompt(self, utterance: str) -> list[int]:
        """Token ids up to and including <call>."""
        return [self.bos, self.user, *self._spoken(utterance).ids, self.call]

    def target(self, utterance: str, call: Call) -> list[int] | None:
        """Token ids of the right answer, slots in the order they are said; None where a value is no span of the utterance."""
        spoken = self._spoken(utterance).ids
        found = []
        for name, values in call.slots.items():
            for value in values if isinstance(values, list) else [values]:
                ids = self._spoken(value).ids
                at = _find(spoken, ids)
                if at is None:
                    return None
                found.append((at, -len(ids), name, ids))
        pieces = [[self.slots[name], *ids] for _, _, name, ids in sorted(found)]
        return [self.intents[call.intent], *(token for piece in pieces for token in piece), self.eos]

    def constraint(self, utterance: str) -> CallConstraint:
        """What may follow, token by token, for this utterance."""
        return CallConstraint(self, self._spoken(utterance))

    def decode(self, ids: Sequence[int]) -> Call:
        """The call that `ids` (with or without <eos>) spell. Raises ValueError where they are not of the form."""
        body = list(ids[:-1]) if ids and ids[-1] == self.eos else list(ids)
        if not body or body[0] not in self.intent_of:
            raise ValueError("a call begins with an intent")
        said: dict[str, list[str]] = {}
        for name, value in self._pieces(body[1:]):
            said.setdefault(name, []).append(self.tokenizer.decode(value).strip())
        return Call(self.intent_of[body[0]], {name: values[0] if len(values) == 1 else values for name, values in said.items()})

    def _pieces(self, ids: Iterable[int]) -> list[tuple[str, list[int]]]:
        pieces: list[tuple[str, list[int]]] = []
        for token in ids:
            if token in self.slot_of:
                pieces.append((self.slot_of[token], []))
            elif not pieces or token in self._never_said:
                raise ValueError("a value stands without its slot")
            else:
                pieces[-1][1].append(token)
        if any(not value for _, value in pieces):
            raise ValueError("a slot has no value")
        return pieces

    def _spoken(self, text: str) -> tokenizers.Encoding:
        return self.tokenizer.encode(normalise(text), add_special_tokens=False)


class CallConstraint:
    """The grammar of one answer as it grows: `allowed()` token ids next, `push()` what was chosen, `done` after <eos>.

    Inside a value it follows every span of the utterance that still matches; a value starts where a word starts and ends where one ends.
    """

    def __init__(self, form: CallForm, spoken: tokenizers.Encoding) -> None:
        self._form = form
        self._ids: list[int] = spoken.ids
        words = spoken.word_ids
        spaced = [piece.startswith(SPACE) for piece in spoken.tokens]
        size = len(self._ids)
        self._starts = [i for i in range(size) if i == 0 or (spaced[i] and words[i] != words[i - 1])]
        self._ends = {i + 1 for i in range(size) if i + 1 == size or words[i + 1] != words[i]}
        self._slots: tuple[int, ...] = ()
        self._intent_given = False
        self._heads: list[int] | None = None  # positions in the utterance after each span that still matches
        self._left = MAX_SLOTS
        self.done = False

    def allowed(self) -> NDArray[np.int32]:
        """Ids permitted next, (n,) int32 ascending; empty once done."""
        return np.array(sorted(self._allowed()), np.int32)

    def push(self, token: int) -> None:
        """Take the chosen token. Raises ValueError if it was not allowed."""
        if token not in self._allowed():
            raise ValueError(f"token {token} is not allowed here")
        form = self._form
        if not self._intent_given:
            self._intent_given = True
            self._slots = tuple(form.slots[name] for name in form.schema.intents[form.intent_of[token]])
        elif token == form.eos:
            self.done = True
        elif token in form.slot_of:
            self._left -= 1
            self._heads = self._starts
        elif self._heads is not None:
            self._heads = [at + 1 for at in self._heads if at < len(self._ids) and self._ids[at] == token]

    def _allowed(self) -> set[int]:
        if self.done:
            return set()
        if not self._intent_given:
            return set(self._form.intents.values())
        if self._heads is None:
            return self._between()
        inside = {self._ids[at] for at in self._heads if at < len(self._ids)}
        complete = self._heads is not self._starts and any(at in self._ends for at in self._heads)
        return inside | self._between() if complete else inside

    def _between(self) -> set[int]:
        more = self._slots if self._left and self._starts else ()
        return {self._form.eos, *more}


def _check_spelled(spelled: Mapping[str, int], schema: CallSchema, tokenizer: tokenizers.Tokenizer, added: Mapping[int, object]) -> None:
    """Raise ValueError unless each intent of `spelled` has a piece of ordinary text for itself."""
    for name, token in spelled.items():
        if name not in schema.intents:
            raise ValueError(f"a token stands for {name[:100]!r}, which is no intent")
        if token in added or tokenizer.id_to_token(token) is None:
            raise ValueError(f"token {token} is no piece of ordinary text, so it cannot stand for the intent {name[:100]!r}")
    if len(set(spelled.values())) < len(spelled):
        raise ValueError("one token stands for two intents")


def _find(text: Sequence[int], part: Sequence[int]) -> int | None:
    size = len(part)
    return next((at for at in range(len(text) - size + 1) if list(text[at : at + size]) == list(part)), None) if size else None
