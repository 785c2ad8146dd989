"""A private request puts no byte on any channel, whatever the policy, the device, the answer, and whatever breaks.

Each example of hypothesis draws a policy, some requests, devices and faults, and asks every combination: that is one case each. The small
number runs with all tests; `make test-privacy` runs at least 100,000 different ones.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import logging
import select
import socket
from collections.abc import Iterable
from contextlib import aclosing
from dataclasses import dataclass, replace
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

import strategies
from channels import Channels, RecordingCloud
from fakes import SURE, UNSURE, FakeClock, FakeEdge, FakeMeter, call_tokens, chunks, fault, tokens
from leanto import AsyncClient, Client, CloudUnavailable, Decision, LeantoError, Policy, Snapshot
from leanto.ledger import Ledger, Spending
from leanto.otel import OpenTelemetry
from leanto.policy.rules import read_rule
from leanto.policy.schema import ARTIFACT, Audit, Budgets, CloudTarget, Privacy
from leanto.policy.verdict import CLOUD
from leanto.remote import RemoteTarget
from leanto.trace import attributes, headers
from leanto_edge import GenerationRequest, PromptError, Token
from promises import PROMISE, PUBLIC

WORD = "zanzibar"
FEW, MANY = 1_000, 100_000
CALL = '{"intent": "alarm_query", "slots": {}}'
DIALLED = RemoteTarget("127.0.0.1:9", "A" * 43 + "=")
RULES = tuple(
    read_rule({"name": f"r{i}", **rule}, [])
    for i, rule in enumerate(
        (
            {"if": "true", "prefer": "cloud"},
            {"if": "true", "allow": ["cloud"]},
            {"if": "battery_percent < 50.0", "prefer": "cloud", "unknown": "apply"},
            {"if": "battery_percent / cpu_load > 1.0", "allow": ["cloud"], "unknown": "apply"},
        )
    )
)


@dataclass(frozen=True)
class Request:
    """How it is asked. `patience` is how many events are read before the reader leaves; None reads all."""

    form: str  # ask, stream, chat, explain
    task: str
    patience: int | None
    max_tokens: int


@dataclass(frozen=True)
class Fault:
    """What the edge does, and what else breaks. `tick_s` passes at each look at the clock."""

    edge: str
    logprob: float
    at: int
    cloud: str
    recorder: bool
    ledger: bool
    tick_s: float


UNBROKEN = Fault("answers", SURE, at=6, cloud="answers", recorder=False, ledger=False, tick_s=0.0)
requests = st.builds(
    Request,
    st.sampled_from(["ask", "stream", "chat", "explain"]),
    st.sampled_from(["call", "text"]),
    st.none() | st.integers(0, 3),
    st.integers(1, 8),
)
faults = st.builds(
    Fault,
    st.sampled_from(["answers", "no call", "nan", "prompt", "memory", "broken", "value", "unfit", "knows nothing"]),
    st.sampled_from([SURE, UNSURE]),
    st.integers(0, 6),
    st.sampled_from(["answers", "fails", "dialled"]),
    st.booleans(),
    st.booleans(),
    st.sampled_from([0.0, 0.0, 5.0]),
)
policies = st.builds(
    lambda policy, rules, audited: replace(audits(policy) if audited else policy, rules=rules),
    strategies.policies,
    st.sampled_from([(), *((rule,) for rule in RULES)]),
    st.booleans(),
)
ERRORS: dict[str, Exception] = {
    "prompt": PromptError("too long"),
    "memory": MemoryError(),
    "broken": RuntimeError("a kernel failed"),
    "value": ValueError("nonsense"),
}


def audits(policy: Policy) -> Policy:
    """Every certified answer of every class is to be asked again, of the private ones, too, which no file could say. The budgets let
    the edge answer, for only its answers are audited."""
    quality = replace(policy.quality, certificates=(ARTIFACT,), certificate_key=PUBLIC)
    budgets = Budgets(battery_floor_percent=0, max_temperature_c=150)
    audit = Audit(share=1.0, classes=tuple(policy.privacy.classes))
    return replace(policy, cloud=CloudTarget("127.0.0.1:9", model=RecordingCloud.model_id), budgets=budgets, quality=quality, audit=audit)


class BrokenLedger(Ledger):
    """Nothing is known of what was spent."""

    def last_day(self) -> Spending:
        return Spending(known=False)


class BrokenRecorder:
    """Fails after it has looked at the record by every view."""

    def __init__(self) -> None:
        self.told: list[str] = []

    def write(self, decision: Decision) -> None:
        self.told.append(f"{headers(decision)}{attributes(decision)}{decision}")
        raise RuntimeError("no")

    def close(self) -> None:
        pass


def edge_of(broken: Fault) -> FakeEdge:
    def script(request: GenerationRequest) -> Iterable[Token | Exception]:
        text = "not a call" if broken.edge == "no call" else CALL
        made: list[Token | Exception] = [
            *(call_tokens(text, broken.logprob) if request.task == "call" else tokens("a b c d e f", broken.logprob))
        ]
        if broken.edge == "nan":
            made[broken.at % len(made)] = Token(0, "x", float("nan"), float("nan"), float("nan"))
        return [*made[: broken.at], ERRORS[broken.edge]] if broken.edge in ERRORS else made

    info: dict[str, Any] = {"certificates": (json.loads(PROMISE),)}
    info |= {"tasks": ()} if broken.edge == "knows nothing" else {"fit": False} if broken.edge == "unfit" else {}
    return FakeEdge(script, **info)


class House:
    """What all cases share: an event loop, the channels, a ledger that works and one that does not."""

    def __init__(self) -> None:
        self.channels = Channels()
        self.ledgers = {False: Ledger(), True: BrokenLedger()}
        self.seen: set[int] = set()
        self.answered = 0
        self.certified = 0
        self.audited = 0
        self.telemetry = OpenTelemetry()

    def client(self, policy: Policy, snapshot: Snapshot, broken: Fault) -> tuple[AsyncClient, BrokenRecorder]:
        failing = fault(CloudUnavailable, retryable=True)
        leg: Any = RecordingCloud(self.channels, [failing] if broken.cloud == "fails" else chunks(CALL))
        recorder = BrokenRecorder()
        client = AsyncClient(
            policy=policy,
            model=edge_of(broken),
            cloud=DIALLED if broken.cloud == "dialled" else leg,
            sources=[
                lambda: {name: getattr(snapshot, name) for name in ("battery_percent", "plugged", "cpu_load", "temperature_c", "link")}
            ],
            ledger=self.ledgers[broken.ledger],
            recorders=[self.telemetry, *([recorder] if broken.recorder else [])],
            clock=FakeClock(tick_s=broken.tick_s).clock,
            meter=FakeMeter(),
        )
        return client, recorder

    async def run(self, client: AsyncClient, request: Request, privacy: str) -> Decision | None:
        """The record of a request, however it ends; None where the reader left before there was one."""
        named: Any = {"task": request.task, "privacy": privacy}
        prompt, last = f"wake {WORD} at six", None
        try:
            if request.form == "explain":
                return client.explain(prompt, **named)
            if request.form == "ask" and request.patience is None:
                return (await client.ask(prompt, max_tokens=request.max_tokens, **named)).decision
            asked: Any = client.chat(**named) if request.form == "chat" else None
            stream = asked.stream(prompt) if asked else client.stream(prompt, max_tokens=request.max_tokens, **named)
            async with aclosing(stream) as events:
                async for event in events:
                    last = getattr(event, "reply", None)
                    if request.patience is not None and (request := replace(request, patience=request.patience - 1)).patience == 0:
                        break
        except LeantoError as error:  # any other exception fails the test
            return error.decision
        return last.decision if last else None


def private_classes(policy: Policy) -> list[str]:
    return [name for name, targets in policy.privacy.classes.items() if CLOUD not in targets]


async def check(house: House, policy: Policy, asked: list[Request], devices: list[Snapshot], breaking: list[Fault]) -> None:
    """Every request on every device with every fault, in turn of the private classes."""
    classes = itertools.cycle(private_classes(policy))
    for snapshot, broken in itertools.product(devices, breaking):
        client, recorder = house.client(policy, snapshot, broken)
        for request in asked:
            privacy = next(classes)
            decision = await house.run(client, request, privacy)
            await client._auditor.close()
            case = (policy, privacy, request, snapshot, broken)
            assert house.channels.used == [], case
            if decision is not None:
                sent = (decision.bytes_sent, decision.bytes_received, decision.cloud_tokens, decision.usd)
                assert sent == (0, 0, 0, 0.0), case
                assert CLOUD not in decision.route, case
                assert not decision.audited, case
            house.certified += decision is not None and "certified" in decision.labels
            house.answered += decision is not None and decision.local_tokens > 0
            house.seen.add(hash((policy.hash, privacy, request, snapshot, broken)))
        assert not any(WORD in told for told in recorder.told)


async def ask_in_public(house: House, policy: Policy, asked: list[Request], devices: list[Snapshot], breaking: list[Fault]) -> None:
    """The same, but where the cloud may answer."""
    for snapshot, broken in itertools.product(devices, breaking):
        client, _ = house.client(replace(policy, privacy=Privacy()), snapshot, broken)
        for request in asked:
            decision = await house.run(client, request, "public")
            await client._auditor.close()
            house.audited += decision is not None and decision.audited


def explored(examples: int, visit: Any = check) -> House:
    """The house after `visit` has seen all combinations of each example."""
    house = House()
    lists: dict[str, Any] = {"min_size": 5, "max_size": 5, "unique": True}
    logging.getLogger("leanto").disabled = True  # each broken recorder is a warning
    try:
        with asyncio.Runner() as runner, house.channels.watched():

            @settings(max_examples=examples, database=None, suppress_health_check=list(HealthCheck))
            @example(audits(Policy()), [Request("ask", "call", None, 8)], [Snapshot()], [UNBROKEN])
            @given(policies, st.lists(requests, **lists), st.lists(strategies.snapshots, **lists), st.lists(faults, **lists))
            def search(policy: Policy, asked: list[Request], devices: list[Snapshot], breaking: list[Fault]) -> None:
                runner.run(visit(house, policy, asked, devices, breaking))

            search()
    finally:
        logging.getLogger("leanto").disabled = False
    return house


def test_a_private_request_puts_no_byte_on_any_channel() -> None:
    house = explored(FEW // 100)
    assert len(house.seen) >= FEW
    assert house.answered > FEW // 10
    assert house.certified > 0


@pytest.mark.privacy
@pytest.mark.timeout(900)
def test_a_hundred_thousand_private_requests_put_no_byte_on_any_channel() -> None:
    house = explored(MANY // 90)
    certified = f"{house.certified:,} of them with a certificate that an audit would watch"
    print(f"{len(house.seen):,} different private requests, {house.answered:,} answered, {certified}; bytes sent: 0")
    assert len(house.seen) >= MANY


def test_the_same_search_in_public_uses_every_channel_and_audits() -> None:
    house = explored(20, ask_in_public)
    assert set(house.channels.used) == {"leg", "channel"}
    assert house.audited > 0


@pytest.mark.parametrize(("privacy", "heard"), [("secret", False), ("public", True)])
def test_a_node_that_listens_hears_of_public_requests_alone(privacy: str, heard: bool) -> None:
    """From the other end, by whatever way a byte may come, that of native code too."""
    policy = audits(Policy(rules=RULES[:1]))
    policy = replace(policy, budgets=replace(policy.budgets, deadline_ms=1_000))
    with socket.create_server(("127.0.0.1", 0)) as node:
        target = replace(DIALLED, address=f"127.0.0.1:{node.getsockname()[1]}")
        with Client(policy=policy, cloud=target) as client:
            client.ask("wake me at six", privacy=privacy)
        assert bool(select.select([node], [], [], 0)[0]) == heard
