"""One request, checked at the door: what is asked, how to sample, and how private it is. Knows nothing of targets."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any, Literal

from leanto.errors import PromptRefused

Task = Literal["call", "text"]
MAX_PROMPT_CHARS = 32_768


@dataclass(frozen=True, slots=True)
class Ask:
    """A checked request. `temperature` 0 is greedy; `top_k` 0 and `top_p` 1 filter nothing."""

    prompt: str = field(repr=False)
    task: Task
    privacy: str
    max_tokens: int = 128
    temperature: float = 0.0
    top_p: float = 1.0
    top_k: int = 0
    seed: int | None = None
    stop: tuple[str, ...] = field(default=(), repr=False)

    def __post_init__(self) -> None:
        """Raise PromptRefused for a prompt that no target could answer, or sampling out of range."""
        check_prompt(self.prompt)
        if self.task not in ("call", "text"):
            raise PromptRefused(f"unknown task {self.task!r}: use 'call' or 'text'")
        for name, value, good, expected in (
            ("max_tokens", self.max_tokens, 1 <= self.max_tokens <= 65_536, "1 to 65536"),
            ("temperature", self.temperature, 0 <= self.temperature < 100, "0 (greedy) or more, below 100"),
            ("top_p", self.top_p, 0 < self.top_p <= 1, "more than 0, at most 1"),
            ("top_k", self.top_k, self.top_k >= 0, "0 (off) or more"),
            ("stop", self.stop, all(self.stop), "texts that are not empty"),
        ):
            if not good:
                raise PromptRefused(f"{name} is {value!r}: expected {expected}")


def check_prompt(text: str) -> None:
    """Raise PromptRefused unless `text` is something a model can read: not blank, not endless, valid Unicode."""
    if not text.strip():
        raise PromptRefused("the prompt is empty: say what you want")
    if len(text) > MAX_PROMPT_CHARS:
        raise PromptRefused(f"the prompt has {len(text)} characters: shorten it to {MAX_PROMPT_CHARS} or fewer")
    try:
        text.encode("utf-8")
    except UnicodeEncodeError as error:
        raise PromptRefused(f"the prompt is not valid UTF-8 at character {error.start + 1}: send text") from None


def parse_call(text: str) -> dict[str, Any] | None:
    """The call in `text` ({"intent": …, "slots": {…}}), or None if it is not one."""
    try:
        call = json.loads(text)
    except (ValueError, RecursionError):
        return None
    return call if isinstance(call, dict) and isinstance(call.get("intent"), str) else None
