"""The cascade: answer on the edge, watch the evidence, and change hands where the policy says so. Async throughout.

It owns the rule of the first visible token: before it, a hand-off starts again from the prompt; after it, whoever takes over goes
on from exactly what was shown. Nothing is shown twice and nothing shown is lost. Knows nothing of devices or files.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Iterator
from contextlib import aclosing
from functools import partial
from typing import TYPE_CHECKING

from leanto.clock import Clock
from leanto.decision import Promise, Spent, Target
from leanto.errors import (
    BudgetSpent,
    CloudUnavailable,
    DeadlineExceeded,
    EngineFault,
    EvidenceRefused,
    Fault,
    LeantoError,
    NoRoute,
    PromptRefused,
    ProtocolFault,
)
from leanto.events import HandoffEvent, RestartEvent, TextEvent
from leanto.local.run import Confidence, EdgeModel, LocalRun, Watch, assess
from leanto.policy import (
    Policy,
    Verdict,
    after_fault,
    certified_score,
    judge_answer,
    judge_breakdown,
    judge_certificate,
    judge_low,
    judge_pace,
    judge_probe,
    judge_stream,
    judge_structure,
    own_or,
    stay,
    without_edge,
)
from leanto.policy.budgets import EDGE_SHARE, cloud_ms, overtaken
from leanto.policy.verdict import CLOUD, LOCAL
from leanto.remote import remote_request
from leanto.remote.leg import CloudCall, CloudLeg
from leanto.request import Ask, parse_call

if TYPE_CHECKING:
    from leanto.remote import RemoteChunk

Shown = TextEvent | HandoffEvent | RestartEvent

_FAULT_LABELS: dict[type[LeantoError], str] = {
    CloudUnavailable: "cloud-unreachable",
    EvidenceRefused: "cloud-refused",
    DeadlineExceeded: "cloud-late",
    ProtocolFault: "cloud-invalid",
    PromptRefused: "cloud-cannot",
}


class Cascade:
    """One answer. `events()` may be consumed once; the other attributes are the account of it, valid at any time."""

    def __init__(
        self,
        ask: Ask,
        policy: Policy,
        verdict: Verdict,
        edge: EdgeModel,
        cloud: Callable[[], CloudLeg] | None,
        *,
        hold: int | None,
        started: float,
        clock: Clock,
        promise: Callable[[], Promise] = Promise,
        usual_tokens: float | None = None,
    ) -> None:
        self.verdict = verdict
        self.visible = ""
        self.confidence: Confidence | None = None
        self.promise = Promise()
        self.switches = 0
        self.cloud_tokens = 0
        self.cloud_calls = 0
        self.bytes_sent = 0
        self.bytes_received = 0
        self.cloud_model: str | None = None
        self.cloud_evidence: str | None = None
        self.refused: Spent | None = None  # what was spent when a budget stopped a call
        self.first_text_at: float | None = None
        self._ask = ask
        self._policy = policy
        self._edge = edge
        self._cloud = cloud
        self._find_promise = promise
        self._hold = None if ask.task == "call" else hold
        self._clock = clock
        known = edge.info.confidence.get(ask.task, {}) if edge.info.fit else {}
        self._artifact_floor: float | None = known.get("stream_floor")
        self._probe_floor: float | None = known.get("probe", {}).get("floor")
        self._started = started
        self._deadline = started + policy.budgets.deadline_ms / 1000
        self._usual_tokens = usual_tokens
        self._legs: list[Target] = []
        self._runs: list[LocalRun] = []
        self._paused: LocalRun | None = None
        self._cloud_kept = 0
        self._next: Target | None = None

    @property
    def route(self) -> str:
        """The legs that produced tokens, in order: "local→cloud"."""
        return "→".join(self._legs) or "none"

    @property
    def local_tokens(self) -> int:
        """Tokens the edge generated, kept or not."""
        return sum(len(run.tokens) for run in self._runs)

    @property
    def kept_tokens(self) -> int:
        """Tokens that are part of what is visible."""
        return self.kept_local_tokens + self._cloud_kept

    @property
    def kept_local_tokens(self) -> int:
        """Those of them that the edge generated."""
        return sum(run.shown for run in self._runs)

    @property
    def local_work(self) -> list[tuple[int, float, bool]]:
        """Of each run on the edge that tells its pace: tokens, seconds of its own work, and whether it was a whole answer."""
        return [(len(run.tokens), run.seconds, run.done and not run.prefix) for run in self._runs if run.done or run.too_slow]

    async def events(self) -> AsyncGenerator[Shown, None]:
        """The answer as it becomes visible. Raises NoRoute, PromptRefused or a Fault when the policy leaves nothing to try."""
        self._next = self._start()
        try:
            while self._next is not None:
                leg = self._on_edge() if self._next == LOCAL else self._in_cloud()
                async with aclosing(leg) as events:
                    async for event in events:
                        yield event
        finally:
            for run in self._runs:
                await run.close()

    # the edge

    async def _on_edge(self) -> AsyncGenerator[Shown, None]:
        run = self._resume()
        try:
            async with aclosing(self._watched(run)) as texts:
                async for text in texts:
                    yield self._show(text, LOCAL)
            lean = run.doubted or self._judge(run)
        except (EngineFault, PromptRefused) as error:
            lean = self._leave_edge(error)
        if lean:
            for event in self._hand_over(run):
                yield event
            return
        rest = run.flush()
        if rest:
            yield self._show(rest, LOCAL)
        self._next = None

    def _resume(self) -> LocalRun:
        """The run that was set aside for the cloud, or a new one going on from what is visible."""
        if self._paused is not None:
            run, self._paused = self._paused, None
            return run
        run = LocalRun(
            self._edge,
            self._ask,
            self._watch(),
            prefix=self.visible,
            max_tokens=self._ask.max_tokens - self.kept_tokens,
            deadline=self._deadline,
            clock=self._clock,
        )
        self._runs.append(run)
        return run

    def _watch(self) -> Watch:
        handoff = self._policy.handoff
        if CLOUD not in self.verdict.allowed:
            return Watch(self._hold, handoff.window, None)
        return Watch(
            self._hold,
            handoff.window,
            handoff.stream_floor,
            low_floor=own_or(handoff.low_floor, self._artifact_floor),
            call=self._ask.task == "call",
            max_repeats=handoff.max_repeats,
            usual_tokens=self._usual_tokens if not self.visible else None,  # of a whole answer
            hurry_at=self._started + EDGE_SHARE * (self._deadline - self._started),
            probe_floor=own_or(handoff.probe_floor, self._probe_floor),
        )

    async def _watched(self, run: LocalRun) -> AsyncGenerator[str, None]:
        """Text of `run` that may be shown; ends when it is done, or `doubted` with a target to turn to."""
        run.doubted = False
        while not run.done:
            news = await run.advance()
            if news.late:
                raise DeadlineExceeded(f"no answer within {self._policy.budgets.deadline_ms} ms; raise budgets.deadline_ms")
            if news.foreseen is None:
                self._enter(LOCAL)
            if news.text:
                yield news.text
            if news.foreseen is not None:
                doubt = partial(judge_probe, self._policy, foreseen=news.foreseen, artifact_floor=self._probe_floor)
            elif news.doubt is not None:
                doubt = partial(judge_stream, self._policy, mean_logprob=news.doubt)
            elif news.low is not None:
                doubt = partial(judge_low, self._policy, low_logprob=news.low, artifact_floor=self._artifact_floor)
            elif news.broken is not None:
                doubt = partial(judge_breakdown, self._policy, broken=news.broken)
            elif news.too_late is not None:
                doubt = partial(judge_pace, self._policy, expected_ms=1000 * (news.too_late - self._started))
            else:
                continue
            if self._lean(doubt):
                run.doubted = True
                return
            run.trust()

    def _judge(self, run: LocalRun) -> bool:
        """Whether the finished answer belongs to the cloud. The end of an answer that the cloud began is not judged."""
        if run.judged or run.prefix:
            return False
        run.judged = True
        policy, task = self._policy, self._ask.task
        if run.foreseen is not None:
            foreseen = partial(judge_probe, policy, foreseen=run.foreseen, artifact_floor=self._probe_floor)
            if self._lean(foreseen, finished=True):
                return True
        if run.watched and self._lean(partial(judge_stream, policy, mean_logprob=run.lowest), finished=True):
            return True
        low = partial(judge_low, policy, low_logprob=run.low, artifact_floor=self._artifact_floor)
        if run.watched_low and self._lean(low, finished=True):
            return True
        if task == "call":
            valid = parse_call("".join(token.text for token in run.tokens)) is not None
            if self._lean(lambda verdict: judge_structure(policy, verdict, valid)):
                return True
        sure = self.confidence = assess(self._edge.info, task, run.tokens)
        promise = self.promise = self._find_promise()

        def judge(verdict: Verdict) -> Verdict:
            verdict = judge_answer(policy, verdict, task, sure.value, sure.threshold, promise)
            score = certified_score(sure.value, (run.low, self._artifact_floor), (run.foreseen, self._probe_floor))
            return judge_certificate(policy, verdict, score, promise)

        return self._lean(judge, finished=True)

    def _lean(self, judge: Callable[[Verdict], Verdict], *, finished: bool = False) -> bool:
        """Apply a judgement, and say whether the cloud takes over; where it no longer can, the judgement is made without it."""
        judged = judge(self.verdict)
        limit = self._policy.handoff.max_switches
        if judged.start == CLOUD and self.switches >= limit:
            judged = judge(stay(self.verdict, "max_switches", self.switches, limit, "max-switches", "no further hand-off in this request"))
        elif judged.start == CLOUD and finished and self.visible and self._policy.handoff.resume == "prefix":
            seen = len(self.visible)
            judged = judge(stay(self.verdict, "visible_chars", seen, 0, "already-visible", "the answer was shown; nothing is left to add"))
        self.verdict = judged
        return self._start() == CLOUD

    def _leave_edge(self, error: LeantoError) -> bool:
        """The edge cannot do it: the cloud does, if it may; else the error stands."""
        if CLOUD not in self.verdict.allowed or self.switches >= self._policy.handoff.max_switches:
            raise error
        label = "edge-cannot" if isinstance(error, PromptRefused) else "edge-failed"
        self.verdict = without_edge(self.verdict, label, str(error))
        return True

    def _hand_over(self, run: LocalRun) -> Iterator[Shown]:
        """To the cloud. The run is set aside: if the cloud fails before it shows anything, nothing is lost."""
        self.switches += 1
        self._next = CLOUD
        self._paused = run if LOCAL in self.verdict.constrained else None
        yield HandoffEvent(self.verdict.labels[-1], LOCAL, CLOUD, len(self.visible))
        if self.visible and self._policy.handoff.resume == "restart":
            dropped, self.visible, self._cloud_kept = len(self.visible), "", 0
            for earlier in self._runs:
                earlier.shown = 0
            if run.prefix:
                self._paused = None
            yield RestartEvent(dropped)

    # the cloud

    async def _in_cloud(self) -> AsyncGenerator[Shown, None]:
        try:
            async with aclosing(self._received()) as texts:
                async for text in texts:
                    yield self._show(text, CLOUD)
            self._next = None
        except BudgetSpent as error:
            self.refused, self.verdict = error.spent, overtaken(self._policy, error.spent, self.verdict)
            yield self._back_to_edge(self.verdict.labels[-1], error)
        except (Fault, PromptRefused) as error:
            yield self._fall_back(error)

    async def _received(self) -> AsyncGenerator[str, None]:
        """Text from the node that may be shown: as it comes, but a call only whole and valid."""
        now = self._clock.monotonic()
        until = now + cloud_ms(self._policy, self.verdict, 1000 * (self._deadline - now)) / 1000
        if until <= now:
            raise DeadlineExceeded(f"no time left for the cloud within {self._policy.budgets.deadline_ms} ms")
        assert self._cloud is not None  # the verdict allows the cloud only where there is one
        leg = self._cloud()
        self.cloud_calls += 1
        far, kept = self._policy.budgets.max_rtt_ms is not None, self.kept_tokens
        call = leg.generate(remote_request(self._ask, until - now, prefix=self.visible, kept_tokens=kept, wants_rtt=far))
        parts: list[str] = []
        tokens = 0
        try:
            finished = False
            while not finished:
                chunk = await self._next_chunk(call, until)
                self._enter(CLOUD)
                self.cloud_model, self.cloud_evidence = leg.model_id, leg.evidence_id
                finished = chunk.finish_reason is not None
                parts.append(chunk.text)
                self.cloud_tokens += len(chunk.token_ids)
                tokens += len(chunk.token_ids)
                if self._ask.task == "text" and chunk.text:
                    self._cloud_kept += tokens
                    tokens = 0
                    yield chunk.text
            self._cloud_kept += tokens
            if self._ask.task == "call":
                if parse_call("".join(parts)) is None:
                    self._cloud_kept -= tokens
                    raise ProtocolFault("the node's answer is not one JSON call")
                yield "".join(parts)
        finally:
            await call.aclose()
            self.bytes_sent += call.bytes_sent
            self.bytes_received += call.bytes_received

    async def _next_chunk(self, call: CloudCall, until: float) -> RemoteChunk:
        try:
            async with asyncio.timeout(max(0.0, until - self._clock.monotonic())):
                return await anext(call)
        except TimeoutError:
            raise DeadlineExceeded("the node did not answer in time") from None
        except StopAsyncIteration:
            raise CloudUnavailable("the node ended the stream before the answer was finished", retryable=True) from None

    def _fall_back(self, error: Fault | PromptRefused) -> HandoffEvent:
        """The cloud failed: back to the edge, if the policy takes a best effort; else the error stands."""
        again = isinstance(error, Fault) and error.retryable and self.switches < self._policy.handoff.max_switches
        label = _FAULT_LABELS.get(type(error), "cloud-unreachable")
        self.verdict = after_fault(self._policy, self.verdict, label, str(error), again=again)
        return self._back_to_edge(label, error, again=again)

    def _back_to_edge(self, label: str, error: Fault | PromptRefused, *, again: bool = False) -> HandoffEvent:
        if LOCAL not in self.verdict.allowed:
            raise error
        if self._paused is not None and not again:
            self._paused.trust()
        enough = self._paused is None and self.kept_tokens >= self._ask.max_tokens
        self._next = None if enough else LOCAL
        return HandoffEvent(label, CLOUD, LOCAL, len(self.visible))

    # both

    def _start(self) -> Target:
        """Where the verdict leads. Raises NoRoute when nowhere, or PromptRefused when that is the prompt's fault."""
        start, labels = self.verdict.start, self.verdict.labels
        if start is not None:
            return start
        if "too-long" in labels and not self.verdict.offline:
            raise PromptRefused("the prompt is longer than the edge's context, and no cloud may answer it: shorten it")
        if "edge-cannot" in labels and not self.verdict.offline:
            raise PromptRefused(f"the model {self._edge.info.name} does not know the task {self._ask.task!r}, and no cloud may answer it")
        why = "; ".join(f"{check.name} is {check.value}" for check in self.verdict.checks if check.verdict == "veto")
        raise NoRoute(f"the policy leaves no target for this request ({why}); `leanto explain` shows every check")

    def _enter(self, target: Target) -> None:
        if not self._legs or self._legs[-1] != target:
            self._legs.append(target)

    def _show(self, text: str, source: Target) -> TextEvent:
        if self.first_text_at is None:
            self.first_text_at = self._clock.monotonic()
        self.visible += text
        if source == CLOUD:
            self._paused = None  # what the edge held back is no longer what would come next
        return TextEvent(text, source)
