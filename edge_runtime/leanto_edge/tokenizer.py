"""Text to token ids and back, as a stream.

Wraps a Hugging Face `tokenizer.json`. A user's text is never parsed as special tokens. Knows nothing of models or tasks.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import Any

import tokenizers

from leanto_edge.errors import ArtifactError

INCOMPLETE = "\N{REPLACEMENT CHARACTER}"  # how a decoder shows bytes that do not yet make a character
LONGEST_WAIT = 32  # tokens after which bytes that still make no character are shown as such
WITHOUT_BOS = ("GPT2Tokenizer", "Qwen2Tokenizer")  # classes of transformers that put no BOS in front unless told to


def begins_with_bos(settings: Mapping[str, Any]) -> bool:
    """Whether texts begin with the BOS that the model's config names, by its tokenizer_config.json ({} if it has none)."""
    told = settings.get("add_bos_token")
    if told is not None or settings.get("bos_token", "") is None:
        return bool(told)
    return str(settings.get("tokenizer_class")).removesuffix("Fast") not in WITHOUT_BOS


class Tokenizer:
    """A `tokenizer.json` with its BOS id (None: the model has none). Raises ArtifactError for a file that it cannot work with, be it
    only when a text shows that."""

    def __init__(self, path: Path, bos_id: int | None) -> None:
        self._path = path
        with self.guarded():
            self.raw = tokenizers.Tokenizer.from_file(str(path))
        self.raw.no_truncation()
        self.raw.no_padding()
        self.raw.encode_special_tokens = True
        self.bos_id = bos_id

    @contextmanager
    def guarded(self) -> Iterator[None]:
        """Around calls of `raw`, which raises bare Exception for faults of the file and panics on those that it did not think of."""
        try:
            yield
        except BaseException as error:
            if type(error) is not Exception and type(error).__name__ != "PanicException":
                raise
            raise ArtifactError(self._path, f"is not a usable tokenizer ({error}); fetch the artifact again") from None

    @cached_property
    def vocab_size(self) -> int:
        """The highest token id plus one, special tokens included."""
        return 1 + max(self.raw.get_vocab(with_added_tokens=True).values(), default=-1)

    @cached_property
    def longest_piece(self) -> int:
        """Characters in the longest piece: no text of more than `n` times this fits `n` tokens."""
        return max(map(len, self.raw.get_vocab()), default=1)

    @cached_property
    def silent_ids(self) -> frozenset[int]:
        """The special tokens, which decoding leaves out."""
        return frozenset(token_id for token_id, token in self.raw.get_added_tokens_decoder().items() if token.special)

    def encode(self, text: str) -> list[int]:
        """Token ids of `text` with BOS in front, special tokens in the text taken as plain text."""
        with self.guarded():
            ids: list[int] = self.raw.encode(text).ids
        if max(ids, default=0) >= self.vocab_size:
            raise ArtifactError(self._path, f"puts the token {max(ids)} into texts, which is none; fetch the artifact again")
        if self.bos_id is not None and ids[:1] != [self.bos_id]:
            ids.insert(0, self.bos_id)
        return ids

    def decode(self, ids: Sequence[int]) -> str:
        """The text of `ids` without special tokens."""
        with self.guarded():
            return self.raw.decode(list(ids), skip_special_tokens=True)


class StreamDecoder:
    """Turns token ids into text as they come, and only into whole characters.

    Decoding depends on the neighbours (leading spaces, multi-byte characters), so each new piece is read as the difference
    between two decodings of a short window: the tokens of the last piece, at first the end of `context` (ids that stand before the
    stream), and those that follow. The window starts between characters, since byte-fallback decoders drop a whole run that does not.
    """

    def __init__(self, tokenizer: Tokenizer, context: Sequence[int] = ()) -> None:
        self._tokenizer = tokenizer
        self._window = _whole_characters(tokenizer, context)
        self._shown = len(self._window)
        self._read = tokenizer.decode(self._window)

    def push(self, token_id: int) -> str:
        """The text that became readable with `token_id`, perhaps none."""
        if token_id in self._tokenizer.silent_ids:  # it must not part its neighbours: decoders join what is left
            return ""
        self._window.append(token_id)
        text = self._tokenizer.decode(self._window)
        if text.endswith(INCOMPLETE) and len(self._window) - self._shown < LONGEST_WAIT:
            return ""
        new = text[len(self._read) :]
        self._window = self._window[self._shown :]
        self._shown = len(self._window)
        self._read = self._tokenizer.decode(self._window)
        return new

    def flush(self) -> str:
        """What is left at the end: bytes that never became a character show as U+FFFD."""
        return self._tokenizer.decode(self._window)[len(self._read) :]


def _whole_characters(tokenizer: Tokenizer, ids: Sequence[int]) -> list[int]:
    """The last few of `ids`, from a place where a character starts."""
    windows = (list(ids[len(ids) - count :]) for count in range(min(8, len(ids)), min(LONGEST_WAIT, len(ids)) + 1))
    return next((window for window in windows if not tokenizer.decode(window).startswith(INCOMPLETE)), list(ids[-LONGEST_WAIT:]))


class StopMatcher:
    """Lets text through until one of the stop texts appears, holding back only what could still become one."""

    def __init__(self, stop: Sequence[str]) -> None:
        self._stop = tuple(stop)
        self._held = ""
        self.stopped = False

    def push(self, text: str) -> str:
        """The part of all text so far that is safe to show and was not shown before."""
        self._held += text
        starts = [at for at in (self._held.find(stop) for stop in self._stop) if at >= 0]
        if starts:
            self.stopped = True
            return self._release(min(starts))
        keep = max((_overlap(self._held, stop) for stop in self._stop), default=0)
        return self._release(len(self._held) - keep)

    def flush(self) -> str:
        """What was held back, when generation ended by itself."""
        return "" if self.stopped else self._release(len(self._held))

    def _release(self, count: int) -> str:
        shown, self._held = self._held[:count], self._held[count:]
        return shown


def _overlap(text: str, stop: str) -> int:
    """Length of the longest proper prefix of `stop` that `text` ends with."""
    return next((n for n in range(min(len(stop) - 1, len(text)), 0, -1) if text.endswith(stop[:n])), 0)
