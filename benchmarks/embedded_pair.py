"""The pair that ships, on commands that nobody trained on: what certificates keep local, and what a client that has one does and costs.

Called by benchmarks.certificates. An answer "differs" where it does not say what pocket-large says; it is "worse" where only that is right.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

import leanto_edge
from benchmarks.measure import Row, clopper_pearson, quantile
from benchmarks.node import node
from leanto import AsyncClient, Decision, Reply
from leanto.certificates.agreement import same
from leanto.certificates.selective_risk import certify
from leanto.cli.calibrate import TOKENS
from leanto.confidence import fit, predict_in_stream
from leanto.policy.reader import default_policy
from leanto.policy.schema import Policy
from leanto.remote import RemoteTarget
from leanto_edge import Completion, Engine, GenerationRequest, SamplingParams

ALPHA, DELTA = 0.05, 0.05
CLOUD_ONLY = "cloud"  # a privacy class that the default policy does not have


@dataclass(frozen=True, slots=True)
class Answered:
    """A command: the edge's evidence, whether edge and cloud are right, and whether they differ."""

    tokens: tuple[leanto_edge.Token, ...]
    right: bool
    cloud_right: bool
    differs: bool

    @property
    def worse(self) -> bool:
        """Than the cloud's."""
        return self.cloud_right and not self.right


Label = Callable[[Answered], bool]
# what the confidence is fitted on, and what is certified of it
VARIANTS: dict[str, tuple[Label, Label]] = {
    "confidence that it is right, disagreement certified": (lambda one: one.right, lambda one: one.differs),
    "confidence that it agrees, disagreement certified": (lambda one: not one.differs, lambda one: one.differs),
    "confidence that it is right, worse certified": (lambda one: one.right, lambda one: one.worse),
}


def measure(data: Path, *, thirds: int, quick: bool) -> list[Row]:
    """Certificates over random thirds of the validation commands, then the one that ships, as a client has it."""
    valid, test = (_commands(data, split) for split in ("valid", "test"))
    engines = [leanto_edge.load(path) for path in (leanto_edge.embedded(), leanto_edge.embedded_large())]
    known, unseen = _answered(engines, valid), _answered(engines, test)
    rows = [_over_thirds(name, known, unseen, thirds) for name in VARIANTS]
    with node() as target:
        return rows + asyncio.run(_as_shipped(test[:: 4 if quick else 1], target))


def _commands(data: Path, split: str) -> list[tuple[str, Row]]:
    """Utterances and their right calls."""
    rows = map(json.loads, (data / "nlu" / f"assistant_{split}.jsonl").read_text().splitlines())
    return [(row["utterance"], {"intent": row["intent"], "slots": row["slots"]}) for row in rows]


def _answered(engines: Sequence[Engine], commands: list[tuple[str, Row]]) -> list[Answered]:
    def answer(engine: Engine, utterance: str) -> Completion:
        return engine.complete(GenerationRequest(utterance, "call", SamplingParams(max_tokens=TOKENS)))

    found = []
    for utterance, right in commands:
        edge, cloud = (answer(engine, utterance) for engine in engines)
        found.append(Answered(edge.tokens, same(edge.text, right), same(cloud.text, right), not same(edge.text, cloud.text)))
    return found


def _over_thirds(name: str, known: list[Answered], unseen: list[Answered], thirds: int) -> Row:
    """The confidence is fitted on a third of the known answers, the others certify it, and the unseen ones judge."""
    fitted_on, certified = VARIANTS[name]
    found, cloud = [], np.mean([one.cloud_right for one in unseen])
    for seed in range(thirds):
        order = np.random.default_rng(seed).permutation(len(known))
        learnt, rest = ([known[i] for i in part] for part in (order[: len(known) // 3], order[len(known) // 3 :]))
        model = fit([(one.tokens, fitted_on(one)) for one in learnt])
        one = certify([predict_in_stream(model, answer.tokens) for answer in rest], [certified(answer) for answer in rest], ALPHA, DELTA)
        kept = [one is not None and predict_in_stream(model, answer.tokens) >= one.threshold for answer in unseen]
        local = [answer for answer, stays in zip(unseen, kept, strict=True) if stays]
        exact = np.mean([answer.right if stays else answer.cloud_right for answer, stays in zip(unseen, kept, strict=True)])
        found.append(
            {
                "local": len(local) / len(unseen),
                "disagreement": sum(answer.differs for answer in local) / max(1, len(local)),
                "risk": sum(answer.worse for answer in local) / max(1, len(local)),
                "exact_match": float(exact),
                "points_to_cloud": float(100 * (exact - cloud)),
            }
        )
    means = {key: float(np.mean([one[key] for one in found])) for key in found[0]}
    least = {f"{key}_least": min(one[key] for one in found) for key in ("local", "points_to_cloud")}
    return {"what": f"{name}, mean of {thirds} thirds", "alpha": ALPHA, "delta": DELTA, **means, **least}


async def _as_shipped(commands: list[tuple[str, Row]], target: RemoteTarget) -> list[Row]:
    """The default policy and a node on loopback, the carried certificate and its own threshold; each command also by the cloud alone."""
    policy = _with_a_class_for_the_cloud(default_policy())
    leant, always = [], []
    async with AsyncClient(policy=policy, cloud=target) as client:
        await client.ask(commands[0][0], privacy=CLOUD_ONLY)  # connects, and learns whose answers these are
        await client.ask(commands[0][0])
        for utterance, _ in commands:
            leant.append(await client.ask(utterance))
            always.append(await client.ask(utterance, privacy=CLOUD_ONLY))
    promised = next(promise for reply in leant if (promise := reply.decision.promise) and promise.threshold is not None)
    judged = _judged([right for _, right in commands], leant, always)
    shipped = {"what": "as shipped", "event": promised.event, "alpha": promised.alpha, "delta": promised.delta}
    return [{**shipped, "threshold": promised.threshold, **judged}, *_routes([reply.decision for reply in (*leant, *always)])]


def _with_a_class_for_the_cloud(policy: Policy) -> Policy:
    return replace(policy, privacy=replace(policy.privacy, classes={**policy.privacy.classes, CLOUD_ONLY: ("cloud",)}))


def _judged(rights: list[Row], leant: list[Reply], always: list[Reply]) -> Row:
    """What of the answers was local, and how good they all were, beside the cloud's."""
    exact = np.array([same(reply.text, right) for reply, right in zip(leant, rights, strict=True)])
    cloud = np.array([same(reply.text, right) for reply, right in zip(always, rights, strict=True)])
    local = np.array([reply.route == "local" for reply in leant])
    differ = np.array([not same(reply.text, other.text) for reply, other in zip(leant, always, strict=True)])
    n, kept = len(leant), int(local.sum())
    return {
        "commands": n,
        **_share("local", kept, n),
        **_share("disagreement", int((local & differ).sum()), kept),
        **_share("risk", int((local & cloud & ~exact).sum()), kept),
        **_share("exact_match", int(exact.sum()), n),
        **_share("cloud_exact_match", int(cloud.sum()), n),
        "points_to_cloud": float(100 * (exact.mean() - cloud.mean())),
        "points_to_cloud_ci95": _redrawn(100.0 * exact - 100.0 * cloud, np.mean),
    }


def _routes(decisions: list[Decision]) -> list[Row]:
    """Times and energy by the legs that answered. Joules are this device's; where RAPL counts them, the node, which runs here, is in it."""
    rows = []
    for route in ("local", "cloud", "local→cloud"):
        taken = [decision for decision in decisions if decision.route == route]
        times = np.array([decision.total_ms for decision in taken])
        joules = np.array([decision.energy_j for decision in taken if decision.energy_j is not None])
        rows.append(
            {
                "what": f"route {route}",
                "commands": len(taken),
                "median_ms": float(np.median(times)),
                "median_ms_ci95": _redrawn(times, np.median),
                "p95_ms": quantile(times.tolist(), 0.95),
                "joules": float(joules.mean()) if len(joules) else None,
                "joules_ci95": _redrawn(joules, np.mean) if len(joules) else None,
                "energy_source": ", ".join(sorted({decision.energy_source for decision in taken})),
            }
        )
    return rows


def _share(name: str, count: int, n: int) -> Row:
    return {name: count / max(1, n), f"{name}_ci95": clopper_pearson(count, n) if n else None}


def _redrawn(values: np.ndarray, of: Callable[..., np.ndarray]) -> list[float]:
    """95 % percentile bootstrap."""
    draws = np.random.default_rng(1).choice(values, (1000, len(values)))
    return [float(value) for value in np.quantile(of(draws, axis=1), (0.025, 0.975))]
