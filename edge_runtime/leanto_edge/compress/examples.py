"""The user's own examples as token ids with the places that count: prompts with answers, conversations, plain text, calls.

Reads one JSON object a line. Knows the forms in which a model reads things, nothing of training.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tokenizers

from leanto_edge.adapted import extended_schema
from leanto_edge.adapter import NewCalls
from leanto_edge.calls import Call, CallForm, normalise
from leanto_edge.engine import Engine
from leanto_edge.errors import ArtifactError

FEWEST = 8
LONGEST_TEXT = 512  # tokens; longer texts are several examples
_SIZE_LIMIT_BYTES = 1 << 28
_FORMS = '{"prompt": …, "completion": …}, {"messages": […]} or {"text": …}'

Row = Mapping[str, Any]
Ids = tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Example:
    """Token ids (n,); those from `start` on are to be predicted."""

    ids: Ids
    start: int


@dataclass(frozen=True, slots=True)
class Examples:
    """All examples of a file, and what they add to the model's call schema."""

    examples: tuple[Example, ...]
    calls: NewCalls


def read_examples(path: Path, engine: Engine, model: Path) -> Examples:
    """The examples in `path` as `engine`, the model in the folder `model`, reads them. Raises ArtifactError naming the line."""
    rows = list(_rows(path))
    calls = NewCalls()
    form = engine.call_form
    if form is not None:
        calls = _new_calls(path, rows, form)
        form = CallForm(extended_schema(form.schema, calls), form.tokenizer, calls.tokens)
    reader = _Reader(engine, form, model)
    found: list[Example] = []
    for number, row in rows:
        try:
            for example in reader.read(row):
                if len(example.ids) > engine.info.context_length:
                    raise ValueError(f"has {len(example.ids)} tokens, the model reads {engine.info.context_length}; shorten it")
                if len(example.ids) > max(example.start, 1):
                    found.append(example)
        except ValueError as error:
            raise ArtifactError(path, f"line {number} {error}") from None
    if len(found) < FEWEST:
        raise ArtifactError(path, f"holds {len(found)} examples, adaptation needs at least {FEWEST}; write some more")
    return Examples(tuple(found), calls)


class _Reader:
    """Turns rows into examples, each in the form in which the engine will meet it."""

    def __init__(self, engine: Engine, form: CallForm | None, model: Path) -> None:
        self._engine, self._form, self._model = engine, form, model
        self._eos = tuple(sorted(engine.shape.eos_ids))[:1]
        self._chat: Any = None

    def read(self, row: Row) -> Iterator[Example]:
        """Examples of one row. Raises ValueError saying what is wrong with it."""
        if isinstance(row.get("prompt"), str) and "completion" in row:
            yield self._answered(row["prompt"], row["completion"])
        elif isinstance(row.get("messages"), list):
            yield self._conversation(row["messages"])
        elif isinstance(row.get("text"), str):
            ids = (*self._encode(row["text"]), *self._eos)
            for at in range(0, len(ids), LONGEST_TEXT):
                yield Example(ids[at : at + LONGEST_TEXT], 1)
        else:
            raise ValueError(f"is none of the known forms; write {_FORMS}")

    def _answered(self, prompt: str, completion: object) -> Example:
        call = call_of(completion) if self._form is not None else None
        if not prompt.strip():
            raise ValueError("has an empty prompt; say what is asked")
        if call is not None and self._form is not None:
            asked, said = self._form.prompt(prompt), self._form.target(prompt, call)
            if said is None:
                raise ValueError("has a slot value that is not in the prompt word for word; a call repeats what was said")
            return Example((*asked, *said), len(asked))
        if not isinstance(completion, str) or not completion:
            raise ValueError("has a completion that is neither text nor a call of this model; write text, or a call as the model answers")
        start, whole = self._encode(prompt), self._encode(prompt + completion)
        if whole[: len(start)] != start:  # the border runs through a piece: what is generated begins a new one
            whole = (*start, *self._engine.tokenizer.raw.encode(completion, add_special_tokens=False).ids)
        return Example((*whole, *self._eos), len(start))

    def _conversation(self, messages: Sequence[object]) -> Example:
        """The last message is what is learnt."""
        if len(messages) < 2 or not all(isinstance(message, dict) for message in messages) or _role(messages[-1]) != "assistant":
            raise ValueError('has messages that do not end with an answer; the last one must have the role "assistant"')
        self._chat = self._chat or _chat_tokenizer(self._model)
        try:
            asked = self._chat.apply_chat_template(messages[:-1], tokenize=False, add_generation_prompt=True)
            whole = self._chat.apply_chat_template(messages, tokenize=False)
        except Exception as error:  # a template raises what it likes
            raise ValueError(f"does not fit the model's chat template ({str(error).splitlines()[0]:.200})") from None
        if not whole.startswith(asked):
            raise ValueError("reads differently with its answer than before it in the model's chat template; give prompt and completion")
        start = self._chat(asked, add_special_tokens=False)["input_ids"]
        rest = self._chat(whole[len(asked) :].rstrip("\n"), add_special_tokens=False)["input_ids"]
        return Example((*start, *rest), len(start))

    def _encode(self, text: str) -> Ids:
        if any("\ud800" <= character <= "\udfff" for character in text):
            raise ValueError("is not valid UTF-8; write text")
        return tuple(self._engine.tokenizer.encode(text))


def call_of(completion: object) -> Call | None:
    """The call that a completion is, as JSON text or as an object; None if it is none."""
    if isinstance(completion, str):
        try:
            completion = json.loads(completion)
        except (ValueError, RecursionError):
            return None
    if not isinstance(completion, dict) or not isinstance(completion.get("intent"), str) or set(completion) - {"intent", "slots"}:
        return None
    slots = completion.get("slots", {})
    if not isinstance(slots, dict):
        return None
    values = [value for said in slots.values() for value in (said if isinstance(said, list) else [said])]
    return Call(completion["intent"], slots) if all(isinstance(value, str) and value for value in values) else None


def _new_calls(path: Path, rows: Sequence[tuple[int, Row]], form: CallForm) -> NewCalls:
    """What the rows say that the schema does not, with a piece of text for each new intent."""
    known, slots_known = form.schema.intents, set(form.schema.slots)
    intents: dict[str, tuple[str, ...]] = {}
    tokens: dict[str, int] = {}
    for number, row in rows:
        call = call_of(row.get("completion")) if isinstance(row.get("prompt"), str) else None
        if call is None:
            continue
        name, slots = call.intent, tuple(call.slots)
        if not name.strip() or not name.isprintable() or len(name) > 100:
            raise ArtifactError(path, f"line {number} has an intent that is not a short printable name; rename it")
        unknown = [slot for slot in slots if slot not in slots_known]
        if unknown:
            raise ArtifactError(
                path, f"line {number} has a slot {unknown[0][:100]!r} that the model does not know; use those of its calls.json"
            )
        if name in known and set(slots) <= set(known[name]):
            continue
        intents[name] = tuple(dict.fromkeys((*intents.get(name, ()), *slots)))
        if name not in known and name not in tokens:
            tokens[name] = _piece_for(name, form.tokenizer, set(tokens.values()))
    return NewCalls(intents, tokens)


def _piece_for(name: str, tokenizer: tokenizers.Tokenizer, taken: set[int]) -> int:
    """The longest piece of the name's own words that is free; else the last piece of the vocabulary, the rarest, that is."""
    words = tokenizer.encode(normalise(name.replace("_", " ").replace("-", " ")), add_special_tokens=False)
    special = set(tokenizer.get_added_tokens_decoder())
    free = [(-len(piece), at) for piece, at in zip(words.tokens, words.ids, strict=True) if at not in taken | special]
    if free:
        return min(free)[1]
    return next(at for at in range(tokenizer.get_vocab_size() - 1, -1, -1) if at not in taken | special)


def _rows(path: Path) -> Iterator[tuple[int, Row]]:
    """(line number, object) of every line that is not blank."""
    try:
        if path.stat().st_size > _SIZE_LIMIT_BYTES:
            raise ArtifactError(path, f"is larger than {_SIZE_LIMIT_BYTES >> 20} MiB; a device learns from some hundred examples")
        text = path.read_bytes().decode("utf-8")
    except UnicodeDecodeError:
        raise ArtifactError(path, "is not UTF-8 text; convert it") from None
    except OSError as error:
        raise ArtifactError(path, f"cannot be read ({error.strerror}); check the path") from None
    for number, line in enumerate(text.split("\n"), start=1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except (ValueError, RecursionError):
            row = None
        if not isinstance(row, dict):
            raise ArtifactError(path, f"line {number} is not a JSON object; write one example a line: {_FORMS}")
        yield number, row


def _chat_tokenizer(model: Path) -> Any:
    from transformers import AutoTokenizer

    try:
        tokenizer: Any = AutoTokenizer.from_pretrained(model, local_files_only=True)
    except Exception as error:  # transformers raises many kinds
        raise ValueError(f"is a conversation, but the model's tokenizer cannot be loaded ({str(error).splitlines()[0]:.200})") from None
    if not tokenizer.chat_template:
        raise ValueError("is a conversation, but the model has no chat template; give prompt and completion")
    return tokenizer


def _role(message: object) -> object:
    return message.get("role") if isinstance(message, dict) else None
