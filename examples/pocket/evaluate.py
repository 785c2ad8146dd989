"""Scores a model on held-out commands and stories, run by leanto's own engine: `python evaluate.py MODEL --data DATA [--split test]`.

MODEL is a Hugging Face folder or a compressed artifact: both load the same way.
"""

from __future__ import annotations

import argparse
import json
import math
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import corpus
import numpy as np

import leanto_edge
from leanto_edge import Completion, Engine, GenerationRequest, SamplingParams
from leanto_edge.calls import normalise

CALL_TOKENS = 96
STORY_PREDICTIONS = 20_000


def main() -> None:
    """Print the scores."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model", type=Path)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--split", default="test", choices=("valid", "test"))
    args = parser.parse_args()
    engine = leanto_edge.load(args.model)
    rows = corpus.rows(args.data, args.split)
    print(json.dumps(scores(engine, rows, corpus.stories(args.data, "valid")), indent=1))


def scores(engine: Engine, rows: list[corpus.Row], stories: list[str]) -> dict[str, Any]:
    """Intent accuracy, slot F1 (micro over (slot, value) pairs), exact match over all and per source, and story perplexity."""
    return score_calls(rows, [answer(engine, row) for row in rows]) | {"story_perplexity": perplexity(engine, stories)}


def answer(engine: Engine, row: corpus.Row) -> Completion:
    """The engine's call for one utterance, greedy."""
    return engine.complete(GenerationRequest(row["utterance"], "call", SamplingParams(max_tokens=CALL_TOKENS)))


def score_calls(rows: list[corpus.Row], answers: Iterable[Completion]) -> dict[str, Any]:
    """The figures of a set of answers."""
    intents: list[bool] = []
    exact: dict[str, list[bool]] = {}
    common = given = wanted = 0
    for row, completion in zip(rows, answers, strict=True):
        call = json.loads(completion.text or "{}")
        said, right = pairs(call.get("slots", {})), pairs(row["slots"])
        intents.append(call.get("intent") == row["intent"])
        common, given, wanted = common + (said & right).total(), given + said.total(), wanted + right.total()
        exact.setdefault(row["source"].split(":")[0], []).append(is_exact(row, completion))
    every = [one for group in exact.values() for one in group]
    return {
        "rows": len(rows),
        "intent_accuracy": float(np.mean(intents)),
        "slot_f1": 2 * common / max(1, given + wanted),
        "exact_match": float(np.mean(every)),
        "exact_match_by_source": {name: float(np.mean(group)) for name, group in sorted(exact.items())},
    }


def is_exact(row: corpus.Row, completion: Completion) -> bool:
    """Whether intent and all slots are those of the row."""
    call = json.loads(completion.text or "{}")
    return call.get("intent") == row["intent"] and pairs(call.get("slots", {})) == pairs(row["slots"])


def pairs(slots: dict[str, Any]) -> Counter[tuple[str, str]]:
    """(slot, value) pairs with their multiplicity."""
    return Counter((name, normalise(value)) for name, said in slots.items() for value in (said if isinstance(said, list) else [said]))


def perplexity(engine: Engine, stories: list[str]) -> float:
    """Each story alone with its BOS, cut at the context, at least 8 tokens, until STORY_PREDICTIONS predictions are made."""
    nll, count = 0.0, 0
    for story in stories:
        ids = engine.tokenizer.encode(story.strip())[: engine.info.context_length]
        if len(ids) < 8:
            continue
        logits = engine.logits(ids)[:-1].astype(np.float64)
        logits -= logits.max(axis=1, keepdims=True)
        nll += (np.log(np.exp(logits).sum(axis=1)) - logits[np.arange(len(ids) - 1), ids[1:]]).sum()
        count += len(ids) - 1
        if count >= STORY_PREDICTIONS:
            break
    return math.exp(nll / count)


if __name__ == "__main__":
    main()
