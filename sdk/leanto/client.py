"""The client: look at the device → decide → run → maybe lean → record. The async one is the implementation; `Client` drives it.

Knows the order of the story; every step of it lives in the module that is called.
"""

from __future__ import annotations

import logging
import os
from collections.abc import AsyncGenerator, Callable, Generator, Iterable
from contextlib import aclosing
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, TypedDict, Unpack

from leanto.account import Account, Tab
from leanto.cascade import Cascade
from leanto.certificates.auditor import Auditor, foreseen
from leanto.certificates.certified import Certified, score_name
from leanto.chat import ALONE, AsyncChat, Before, Chat
from leanto.clock import Clock
from leanto.decision import Check, Decision, Promise
from leanto.errors import LeantoError, OutputError, PromptRefused
from leanto.events import Event, FinalEvent, Reply, whole
from leanto.ledger import FILE, Ledger
from leanto.local.pace import Pace
from leanto.local.run import EdgeModel, open_model, open_session
from leanto.loop import LoopThread
from leanto.policy import Facts, Policy, foresee
from leanto.policy.hysteresis import strained
from leanto.policy.schema import SECRET
from leanto.policy.source import policy_of
from leanto.policy.verdict import CLOUD, LOCAL
from leanto.prompt_score import PromptScore
from leanto.record import Situation, record, settle
from leanto.remote import RemoteTarget
from leanto.remote.configured import choose_cloud, open_leg
from leanto.remote.leg import CloudLeg
from leanto.request import Ask, Task, parse_call
from leanto.signals import DEVICE, Sensors, Source, token_energy
from leanto.signals import simulate as rehearse
from leanto.signals.energy import Measurement, Meter, meters
from leanto.state import state_file
from leanto.trace import DecisionLog, Recorder

if TYPE_CHECKING:
    from leanto_wire.claims import Claims

_log = logging.getLogger("leanto")


class Sampling(TypedDict, total=False):
    """How to choose tokens: see leanto.request.Ask for ranges and defaults."""

    max_tokens: int
    temperature: float
    top_p: float
    top_k: int
    seed: int | None
    stop: tuple[str, ...]


class Options(TypedDict, total=False):
    """What both clients are made from: see AsyncClient."""

    policy: Policy | str | Path | None
    policy_key: str | None
    model: EdgeModel | str | Path | None
    cloud: RemoteTarget | CloudLeg | None
    sources: Iterable[Source] | None
    simulate: str | None
    log: str | Path | None
    ledger: Ledger | str | Path | None
    recorders: Iterable[Recorder]
    threads: int | None
    adapter: str | Path | None
    energy: str | Path | None
    clock: Clock | None
    meter: Meter | None
    on_evidence: Callable[[Claims], None] | None


class AsyncClient:
    """Answers on the edge, and leans on a private compute node where the policy says so.

    policy     a Policy, or the path of a TOML file, read again when it changes; default: LEANTO_POLICY, or the one shipped with the package
    policy_key who must have signed that file: the base64 of an Ed25519 public key; default: LEANTO_POLICY_KEY, or anyone
    model      the path of a local model (artifact or plain Hugging Face folder), or a loaded one; default: the embedded pocket
    cloud      a RemoteTarget, or a leg of your own; default: the policy's [targets.cloud], and with neither nothing leaves the device
    sources    where signals come from, later ones overriding earlier ones; default: psutil
    simulate   a rehearsal such as "battery=9%,link=down", on top of the sources
    log        a JSONL file to which every decision is appended
    recorders  what else takes every decision, such as leanto.otel.OpenTelemetry()
    ledger     a SQLite file (or a Ledger) for what was spent in the last day, which several clients may share; default: a file in the
               user's state folder where the policy has a budget of a day or audits, else in memory
    threads    for the local model; default: chosen by its size
    adapter    a file that `leanto adapt` made for this model; default: the model as it is
    energy     a file of `leanto bench energy` for it, which counts where no meter can be read; default: the user's own, if there is one
    on_evidence  is called with the node's verified leanto_wire.claims.Claims before anything is sealed to it, and again when they
               change; whatever it raises refuses the node. It runs on the event loop, so it must not wait. A leg of your own
               verifies for itself. Default: the claims go to the log "leanto" (INFO) alone

    Loads the model at once. Raises PolicyError, ModelError, SignalError, TargetError, OutputError, UserError.
    """

    def __init__(
        self,
        *,
        policy: Policy | str | Path | None = None,
        policy_key: str | None = None,
        model: EdgeModel | str | Path | None = None,
        cloud: RemoteTarget | CloudLeg | None = None,
        sources: Iterable[Source] | None = None,
        simulate: str | None = None,
        log: str | Path | None = None,
        ledger: Ledger | str | Path | None = None,
        recorders: Iterable[Recorder] = (),
        threads: int | None = None,
        adapter: str | Path | None = None,
        energy: str | Path | None = None,
        clock: Clock | None = None,
        meter: Meter | None = None,
        on_evidence: Callable[[Claims], None] | None = None,
    ) -> None:
        self._clock = clock or Clock()
        self._policies = policy_of(policy, policy_key, os.environ, clock=self._clock)
        device = DEVICE if sources is None else tuple(sources)
        self._sensors = Sensors([*device, rehearse(simulate)] if simulate else device, clock=self._clock)
        self._meters = (meter,) if meter else meters(clock=self._clock)
        self._pace = Pace(self._clock)
        self._strained: tuple[str, ...] = ()
        self._cloud = choose_cloud(cloud, self.policy.cloud)
        self._leg: CloudLeg | None = None
        self._on_evidence = on_evidence
        if ledger is None and self.policy.remembers:
            ledger = state_file(FILE)
        self._in_memory = ledger is None
        self._ledger = ledger if isinstance(ledger, Ledger) else Ledger(ledger, clock=self._clock)
        self._ledger_is_ours = self._ledger is not ledger
        self._account = Account(self._ledger)
        self._certified = Certified(self._ledger)
        self._auditor = Auditor(self._ledger)
        self._prompts = PromptScore()
        self.edge = open_model(model, threads=threads, adapter=adapter)
        build = self.edge.info.build_hash
        self._token_energy = token_energy.read(energy, build) if energy else token_energy.own(build)
        self._scores = {task: score_name(self.edge.info.confidence.get(task)) for task in self.edge.info.tasks}
        self._recorders: list[Recorder] = [*recorders, *([DecisionLog(log)] if log else [])]

    async def ask(
        self, prompt: str, *, task: Task | None = None, private: bool = False, privacy: str | None = None, **sampling: Unpack[Sampling]
    ) -> Reply:
        """One answer, whole. Nothing is visible before it is finished, so a doubtful local answer costs the reader nothing.

        `task` defaults to "call" where the model knows calls, else "text". `private` (the class "secret") never leaves the device;
        `privacy` names another class of the policy. Raises PromptRefused, or a Fault carrying its `.decision`.
        """
        policy = self.policy
        request = self.request(policy, prompt, task, private, privacy, sampling)
        return await whole(self.answer(policy, request, hold=None))

    def stream(
        self, prompt: str, *, task: Task | None = None, private: bool = False, privacy: str | None = None, **sampling: Unpack[Sampling]
    ) -> AsyncGenerator[Event, None]:
        """The same as events: TextEvent, HandoffEvent, RestartEvent, and FinalEvent(reply) last. Closing it cancels both legs."""
        policy = self.policy
        request = self.request(policy, prompt, task, private, privacy, sampling)
        return self.answer(policy, request, hold=policy.handoff.hold_tokens)

    def chat(self, *, task: Task | None = None, private: bool = False, privacy: str | None = None) -> AsyncChat:
        """A conversation whose turns see the earlier ones: see leanto.chat."""
        return AsyncChat(self, task=task or self.default_task, private=private, privacy=privacy)

    def explain(self, prompt: str, *, task: Task | None = None, private: bool = False, privacy: str | None = None) -> Decision:
        """What would be decided now, before a token is spent; checks that need an answer are "pending"."""
        policy = self.policy
        seen = self._look(policy, self.request(policy, prompt, task, private, privacy, {}))
        model = self.edge.info.confidence.get(seen.request.task) if self.edge.info.fit else None
        promise = self._promise(seen)
        planned = foresee(policy, seen.decide(), seen.facts, model["threshold"] if model else None, promise)
        ece = model.get("ece") if model and planned.start == LOCAL else None
        audit = foreseen(seen, planned.allowed)
        promised = promise if planned.start == LOCAL else None
        return replace(record(seen, planned, planned.start or "none", self._clock.wall(), audit, promised), ece=ece)

    @property
    def policy(self) -> Policy:
        """The policy in force now; a request keeps the one that it began with."""
        return self._policies.current()

    @property
    def default_task(self) -> Task:
        """ "call" where the local model knows calls, else "text"."""
        return "call" if "call" in self.edge.info.tasks else "text"

    async def aclose(self) -> None:
        """Close the connection to the cloud, if one was opened, and the log. An audit under way may take some seconds to end."""
        await self._auditor.close()
        if self._ledger_is_ours:
            self._ledger.close()
        leg, self._leg = self._leg, None
        recorders, self._recorders = self._recorders, []
        for recorder in recorders:
            recorder.close()
        if leg is not None:
            await leg.close()

    async def __aenter__(self) -> AsyncClient:
        return self

    async def __aexit__(self, *exception: object) -> None:
        await self.aclose()

    async def answer(
        self, policy: Policy, request: Ask, *, hold: int | None, edge: EdgeModel | None = None, before: Before = ALONE
    ) -> AsyncGenerator[Event, None]:
        """The story of one request: look, decide, run and maybe lean, record. `hold`: tokens kept back, None all of them.

        Everything is decided by this `policy`, whatever becomes of its file meanwhile.
        For a conversation: `edge` is a session with the local model, default one for this request alone; `before` is what came before.
        """
        energy = Measurement(self._meters)
        seen = self._look(policy, request, before)
        verdict = seen.decide()
        tab = Tab(self._account, seen)
        cloud = partial(self._open_cloud, tab) if CLOUD in verdict.constrained else None
        session = edge or open_session(self.edge)
        promise = partial(self._promise, seen)
        usual = self._pace.tokens(request.task)
        run = Cascade(
            request,
            policy,
            verdict,
            session,
            cloud,
            hold=hold,
            started=seen.started,
            clock=self._clock,
            promise=promise,
            usual_tokens=usual,
        )
        try:
            async with aclosing(run.events()) as events:
                async for event in events:
                    yield event
        except BaseException as error:  # cancelled or failed: it spent and sent something all the same
            decision = self._finish(seen, run, tab, energy, error)
            if isinstance(error, LeantoError):
                error.decision = decision
            raise
        decision = self._finish(seen, run, tab, energy, self._auditor.chooses(seen, run))
        if decision.audited:
            again = Tab(self._account, seen)
            self._auditor.start(seen, run.visible, run.promise, partial(self._open_cloud, again), again.settle)
        yield FinalEvent(_reply(request, run, decision))

    def request(self, policy: Policy, prompt: str, task: Task | None, private: bool, privacy: str | None, sampling: Sampling) -> Ask:
        """A request as `ask` takes it, checked."""
        if private and privacy not in (None, SECRET):
            raise PromptRefused(f"private=True and privacy={privacy!r} contradict each other: give one of them")
        privacy_class = SECRET if private else privacy or policy.privacy.default
        if privacy_class not in policy.privacy.classes:
            raise PromptRefused(f"unknown privacy class {privacy_class!r}: the policy has {', '.join(policy.privacy.classes)}")
        return Ask(prompt, task or self.default_task, privacy_class, **sampling)

    def _look(self, policy: Policy, request: Ask, before: Before = ALONE) -> Situation:
        started, info = self._clock.monotonic(), self.edge.info
        if self._in_memory and policy.remembers:
            self._keep_ledger()
        spent = self._account.spent()
        snapshot = replace(self._sensors.read(), strained=self._strained)
        if (rtt_ms := getattr(self._leg, "rtt_ms", None)) is not None:
            snapshot = replace(snapshot, rtt_ms=rtt_ms)
        self._strained = strained(policy, snapshot)
        known = info.confidence.get(request.task, {}) if info.fit else {}
        facts = Facts(
            task=request.task,
            privacy=request.privacy,
            prompt_tokens=len(self.edge.tokenizer.encode(request.prompt)),
            edge_tasks=info.tasks,
            context_length=info.context_length,
            cloud_configured=self._cloud is not None,
            edge_fit=info.fit,
            prompt_score=self._prompts.of(policy, request.prompt),
            turns_since_cloud=before.turns_since_cloud,
            expected_local_ms=self._pace.expected_ms(request.task, request.max_tokens),
            router=self._prompts.name,
            score=self._scores.get(request.task),
            edge_low_floor=known.get("stream_floor"),
            tool_caller=before.tool_caller,
            edge_probe_floor=known.get("probe", {}).get("floor"),
        )
        return Situation(policy, request, facts, spent, snapshot, info.build_hash, started)

    def _keep_ledger(self) -> None:
        """The policy was reloaded, and now hangs on what must outlive a restart."""
        self._in_memory = False
        try:
            self._ledger.move_to(state_file(FILE))
        except OutputError as error:
            _log.warning("what is spent is kept in memory alone: %s", error)

    def _promise(self, seen: Situation) -> Promise:
        if self._cloud is None:
            return Promise(why_not="there is no cloud to compare with")
        answered, ask, now = self._leg.model_id if self._leg else None, seen.request, seen.snapshot.taken_at
        return self._certified.promise(seen.policy, self.edge.info, ask.task, answered, now, temperature=ask.temperature)

    def _open_cloud(self, tab: Tab) -> CloudLeg:
        """The leg to the cloud, made when first needed: a client that never leans never opens a channel. Raises BudgetSpent."""
        tab.reserve()
        if self._leg is None:
            assert self._cloud is not None  # the verdict allows the cloud only where there is one
            self._leg = open_leg(self._cloud, self._clock, self._on_evidence)
        return self._leg

    def _finish(self, seen: Situation, run: Cascade, tab: Tab, energy: Measurement, ended: BaseException | Check) -> Decision:
        """Account for what was spent, and record it."""
        energy_j, energy_source = energy.stop()
        if self._token_energy and energy_source in ("estimate", "") and run.local_tokens:
            energy_j, energy_source = self._token_energy.joules(seen.facts.prompt_tokens, run.local_tokens), "token-estimate"
        now = self._clock.monotonic()
        decision = settle(seen, run, ended, at=self._clock.wall(), now=now, energy_j=energy_j, energy_source=energy_source)
        for tokens, seconds, finished in run.local_work:
            self._pace.observe(seen.request.task, tokens, seconds, finished=finished)
        tab.settle(run.bytes_sent, decision.usd, (energy_j or 0.0) if run.local_tokens else 0.0)
        for recorder in self._recorders:
            try:
                recorder.write(decision)
            except Exception as error:
                _log.warning("a decision was not recorded: %s", type(error).__name__)
        return decision


class Client:
    """The same client for code that is not async: it drives an AsyncClient on a thread of its own. Thread-safe.

    Takes the options of AsyncClient. Use it as a context manager, or call `close()`.
    """

    def __init__(self, **options: Unpack[Options]) -> None:
        self._async = AsyncClient(**options)
        self._loop = LoopThread()

    @property
    def policy(self) -> Policy:
        """The policy in force."""
        return self._async.policy

    @property
    def edge(self) -> EdgeModel:
        """The local model."""
        return self._async.edge

    def ask(
        self, prompt: str, *, task: Task | None = None, private: bool = False, privacy: str | None = None, **sampling: Unpack[Sampling]
    ) -> Reply:
        """See AsyncClient.ask."""
        return self._loop.run(self._async.ask(prompt, task=task, private=private, privacy=privacy, **sampling))

    def stream(
        self, prompt: str, *, task: Task | None = None, private: bool = False, privacy: str | None = None, **sampling: Unpack[Sampling]
    ) -> Generator[Event, None, None]:
        """See AsyncClient.stream. Leaving the loop early, by `break` or Ctrl-C, cancels both legs once the iterator is closed."""
        return self._loop.iterate(self._async.stream(prompt, task=task, private=private, privacy=privacy, **sampling))

    def chat(self, *, task: Task | None = None, private: bool = False, privacy: str | None = None) -> Chat:
        """See AsyncClient.chat."""
        return Chat(self._async.chat(task=task, private=private, privacy=privacy), self._loop)

    def explain(self, prompt: str, *, task: Task | None = None, private: bool = False, privacy: str | None = None) -> Decision:
        """See AsyncClient.explain."""
        return self._async.explain(prompt, task=task, private=private, privacy=privacy)

    def close(self) -> None:
        """Close the connection to the cloud, the log and the thread. May be called twice."""
        if not self._loop.closed:
            self._loop.run(self._async.aclose())
            self._loop.close()

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()


def _reply(request: Ask, run: Cascade, decision: Decision) -> Reply:
    return Reply(
        text=run.visible,
        route=decision.route,
        confidence=decision.confidence,
        decision=decision,
        energy_j=decision.energy_j,
        tokens=run.kept_tokens,
        latency_ms=decision.total_ms,
        call=parse_call(run.visible) if request.task == "call" else None,
    )
