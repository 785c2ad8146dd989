"""A conversation. For "text" the transcript so far is the start of the next prompt; for "call" each turn stands alone.

A base model has no chat template: a turn is the prompt and, right after it, its answer; turns are lines. The oldest turns are
dropped when the edge's context would no longer hold the next answer.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Generator
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Unpack

from leanto.decision import Target
from leanto.errors import PromptRefused
from leanto.events import Event, FinalEvent, Reply, whole
from leanto.local.run import open_session
from leanto.loop import LoopThread
from leanto.policy.verdict import CLOUD, LOCAL
from leanto.request import Ask, Task, check_prompt

if TYPE_CHECKING:
    from leanto.client import AsyncClient, Sampling
    from leanto.policy import Policy

ANSWER_TOKENS = 128  # what a turn leaves room for unless it asks for another length


@dataclass(frozen=True, slots=True)
class Turn:
    """What was said, and what was answered."""

    prompt: str = field(repr=False)
    answer: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class Before:
    """What the turns before a prompt have to do with it, as in Facts."""

    turns_since_cloud: int | None = None
    tool_caller: Target | None = None


ALONE = Before()


class AsyncChat:
    """Made by AsyncClient.chat. Its privacy class holds for every turn, since later turns carry the earlier ones."""

    def __init__(self, client: AsyncClient, *, task: Task, private: bool, privacy: str | None) -> None:
        self.turns: tuple[Turn, ...] = ()
        self._taken_over: int | None = None  # the last turn that the cloud answered on its own account
        self._answered_by: Target | None = None  # the last turn
        self._client = client
        self._edge = open_session(client.edge)
        self._task: Task = task
        self._private = private
        self._privacy = privacy

    async def ask(self, prompt: str, *, tool_result: bool = False, **sampling: Unpack[Sampling]) -> Reply:
        """The next turn, whole. A turn that fails or is cancelled leaves the conversation as it was.

        `tool_result` says that the prompt is what a tool returned that the last turn called: it goes where that was answered, as far as
        the policy still allows it.
        """
        policy, before = self._client.policy, self._before(tool_result)
        turn = self._turn(policy, prompt, sampling)
        reply = await whole(self._client.answer(policy, turn, hold=None, edge=self._edge, before=before))
        self._remember(prompt, reply)
        return reply

    async def stream(self, prompt: str, *, tool_result: bool = False, **sampling: Unpack[Sampling]) -> AsyncGenerator[Event, None]:
        """The next turn as events."""
        policy, before = self._client.policy, self._before(tool_result)
        turn = self._turn(policy, prompt, sampling)
        hold = policy.handoff.hold_tokens
        async with aclosing(self._client.answer(policy, turn, hold=hold, edge=self._edge, before=before)) as events:
            async for event in events:
                if isinstance(event, FinalEvent):
                    self._remember(prompt, event.reply)
                yield event

    def _turn(self, policy: Policy, prompt: str, sampling: Sampling) -> Ask:
        return self._client.request(policy, self._with_history(prompt, sampling), self._task, self._private, self._privacy, sampling)

    def _before(self, tool_result: bool) -> Before:
        if tool_result and not self.turns:
            raise PromptRefused("a tool's result needs a turn that called the tool: ask something first")
        since = None if self._taken_over is None else len(self.turns) - self._taken_over
        return Before(since, self._answered_by if tool_result else None)

    def _remember(self, prompt: str, reply: Reply) -> None:
        if reply.route.endswith("cloud") and "sticky" not in reply.decision.labels:
            self._taken_over = len(self.turns)
        self._answered_by = CLOUD if reply.route.endswith(CLOUD) else LOCAL
        self.turns = (*self.turns, Turn(prompt, reply.text))

    def _with_history(self, prompt: str, sampling: Sampling) -> str:
        check_prompt(prompt)
        if self._task == "call":
            return prompt
        edge = self._client.edge
        room = edge.info.context_length - min(sampling.get("max_tokens", ANSWER_TOKENS), edge.info.context_length // 2)
        for first in range(len(self.turns)):
            text = "".join(f"{turn.prompt}{turn.answer}\n" for turn in self.turns[first:]) + prompt
            if len(edge.tokenizer.encode(text)) <= room:
                return text
        return prompt


class Chat:
    """Made by Client.chat: the same conversation for code that is not async."""

    def __init__(self, chat: AsyncChat, loop: LoopThread) -> None:
        self._chat = chat
        self._loop = loop

    @property
    def turns(self) -> tuple[Turn, ...]:
        """What was said so far."""
        return self._chat.turns

    def ask(self, prompt: str, *, tool_result: bool = False, **sampling: Unpack[Sampling]) -> Reply:
        """See AsyncChat.ask."""
        return self._loop.run(self._chat.ask(prompt, tool_result=tool_result, **sampling))

    def stream(self, prompt: str, *, tool_result: bool = False, **sampling: Unpack[Sampling]) -> Generator[Event, None, None]:
        """See AsyncChat.stream."""
        return self._loop.iterate(self._chat.stream(prompt, tool_result=tool_result, **sampling))
