"""What certificates promise is what audits count: pairs of models, certified on one sample, audited on another."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np

import leanto_edge
from asking import BETTER, CALL
from fakes import FakeCloud, FakeEdge, FakeMeter, UntouchableCloud, call_tokens, chunks
from leanto import AsyncClient, Decision, Policy
from leanto.certificates.audit import Audit, observe
from leanto.certificates.certificate import Certificate, from_points, sign
from leanto.certificates.certified import score_name
from leanto.certificates.selective_risk import certify
from leanto.clock import Clock
from leanto.ledger import Ledger
from leanto.policy.reader import default_policy
from leanto.policy.schema import Audit as Asked
from leanto.policy.schema import CloudTarget
from leanto.remote import RemoteChunk, RemoteRequest
from leanto_edge import GenerationRequest, SamplingParams
from promises import KEY, PUBLIC

ALPHA, DELTA = 0.05, 0.05


class Pair:
    """Fakes of which the edge knows, roughly, where the cloud says something else; one in three times that is better.

    The n-th answer is asked for by the prompt "n"."""

    def __init__(self, n: int, seed: int) -> None:
        random = np.random.default_rng(seed)
        self.scores = random.random(n)
        self.differs = random.random(n) < 0.3 * (1 - self.scores)
        self.worse = self.differs & (random.random(n) < 1 / 3)

    def edge(self, certificate: str) -> FakeEdge:
        return FakeEdge(
            lambda request: call_tokens(CALL, float(np.log(self.scores[int(request.prompt)]))), certificates=(json.loads(certificate),)
        )

    def cloud(self) -> FakeCloud:
        return FakeCloud(lambda request: chunks(BETTER if self.differs[int(request.prompt)] else CALL))


def certificate(event: str, pair: Pair) -> tuple[str, Certificate]:
    """Of that event, from all answers of the pair; and as it is signed."""
    found = certify(pair.scores, getattr(pair, {"disagreement": "differs", "worse": "worse"}[event]), ALPHA, DELTA)
    assert found is not None
    names = {"task": "call", "build": "edge-build", "cloud_model": FakeCloud.model_id, "score": score_name(None)}
    made = from_points([found], **names, event=event, issued_at=0.0, expires_at=4e9)
    return sign(made, KEY), made


def audited(
    policy: Policy, edge: Any, cloud: Any, prompts: Sequence[str], clock: Clock | None = None
) -> tuple[list[Decision], list[Audit]]:
    """Every answer that may be audited is, before the next is asked for."""
    ledger = Ledger()
    policy = replace(policy, audit=Asked(1.0, ("personal",)))

    async def run() -> list[Decision]:
        found = []
        async with AsyncClient(
            model=edge, cloud=cloud, policy=policy, sources=(), meter=FakeMeter(None), ledger=ledger, clock=clock
        ) as client:
            for prompt in prompts:
                found.append((await client.ask(prompt, task="call")).decision)
                await client._auditor.close()
        return found

    return asyncio.run(run()), list(ledger.audits().values())


def pinned() -> Policy:
    policy = default_policy()
    cloud = CloudTarget("127.0.0.1:1", model=FakeCloud.model_id)
    return replace(policy, cloud=cloud, quality=replace(policy.quality, certificate_key=PUBLIC))


def test_the_audit_of_a_certified_pair_raises_no_false_alarm() -> None:
    signed, _ = certificate("disagreement", Pair(3000, seed=0))
    served = Pair(600, seed=1)
    decisions, (audit,) = audited(pinned(), served.edge(signed), served.cloud(), [str(i) for i in range(600)])
    local = [decision for decision in decisions if decision.route == "local"]
    assert all(decision.audited for decision in local)
    assert (audit.audited, audit.alarmed) == (len(local), False)
    assert 0 < audit.worse < ALPHA * audit.audited
    assert len(local) > 150


def test_a_promise_about_worse_answers_is_not_audited_and_the_record_says_why() -> None:
    signed, made = certificate("worse", Pair(3000, seed=0))
    served = Pair(600, seed=1)
    (decision,), audits = audited(pinned(), served.edge(signed), UntouchableCloud(), [str(int(served.scores.argmax()))])
    assert (decision.route, decision.audited, audits) == ("local", False, [])
    (check,) = [check for check in decision.checks if check.stage == "certificate"]
    assert check.reason.startswith("answers above it are worse than the cloud's as seldom as was promised; no audit watches that")
    state = Audit(ALPHA, DELTA)
    for differs in served.differs[served.scores >= made.threshold]:
        state = observe(state, bool(differs))
    assert state.alarmed  # what an audit would have made of it, though the promise holds:
    assert served.worse[served.scores >= made.threshold].mean() < ALPHA


def test_the_embedded_pair_keeps_its_promise_on_commands_that_it_was_not_certified_on(data_dir: Path) -> None:
    edge, large = (leanto_edge.load(path) for path in (leanto_edge.embedded(), leanto_edge.embedded_large()))
    (carried,) = edge.info.certificates

    def answer(request: RemoteRequest) -> list[RemoteChunk]:
        done = large.complete(GenerationRequest(request.prompt, "call", SamplingParams(max_tokens=request.max_tokens)))
        return [RemoteChunk(done.text, (0,), (-0.1,), "stop")]

    cloud = FakeCloud(answer)
    cloud.model_id = f"{large.info.name}@{large.info.build_hash}"
    policy = replace(default_policy(), cloud=CloudTarget("127.0.0.1:1", model=cloud.model_id))
    issued = datetime.fromisoformat(carried["issued_at"]).timestamp()
    rows = [json.loads(line) for line in (data_dir / "nlu" / "assistant_test.jsonl").read_text().splitlines()][::2]
    decisions, (audit,) = audited(policy, edge, cloud, [row["utterance"] for row in rows], Clock(wall=lambda: issued + 60))
    assert carried["event"] == "disagreement"
    assert audit.audited == sum("certified" in decision.labels for decision in decisions) > len(rows) / 2
    assert not audit.alarmed
    assert audit.worse < ALPHA * audit.audited
