"""What an observer of the encrypted line learns: the topic of a request from sizes and times, at each level of padding; and whether
somebody asked the same before, from the time to the first token.

`python -m benchmarks.leakage [--data DATA] [--json] [--quick]`. DATA holds nlu/assistant_train.jsonl. Client, observer and node are
processes and sockets of their own; the node runs the embedded pocket-large.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import random
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from benchmarks.asker import asker
from benchmarks.measure import Row, machine, median, show
from benchmarks.node import Variant, node
from benchmarks.observer import Message, Observer
from leanto.remote.target import PaddingLevel

ROOT = Path(__file__).parents[1]
TOPICS, TRACES, WARM_UP = 10, 60, 5
CALL_TOKENS = 96
AFTER_S = 0.015  # what still comes after an answer has ended

Topic = int
Asked = list[tuple[Topic, str]]


@dataclass(frozen=True, slots=True)
class Setting:
    """One way to run: which node, which padding."""

    name: str
    node: Variant
    padding: PaddingLevel = "blocks"
    cadence_ms: int = 50
    frames: int = 32

    @property
    def paced(self) -> bool:
        """Whether it spends its time asleep."""
        return self.padding == "constant" or "slow" in self.node


SETTINGS = (
    Setting("no padding (control)", "unpadded"),
    Setting("blocks", "as it ships"),
    Setting("buckets", "as it ships", "buckets"),
    Setting("constant, 50 ms × 32", "as it ships", "constant"),
    Setting("20 ms a token, no padding (control)", "unpadded, slow engine"),
    Setting("20 ms a token, blocks", "slow engine"),
    Setting("20 ms a token, constant, 50 ms × 4", "slow engine", "constant", frames=4),
    Setting("20 ms a token, constant, 50 ms × 32", "slow engine", "constant"),
)


def topics(data: Path, traces: int = TRACES) -> tuple[list[str], Asked]:
    """The most frequent intents that are in scope, and the first utterances of each, in one shuffled order."""
    lines = (data / "nlu" / "assistant_train.jsonl").read_text().splitlines()
    rows = [(row["intent"], row["utterance"]) for row in map(json.loads, lines)]
    names = [name for name, _ in Counter(name for name, _ in rows if name != "none").most_common(TOPICS)]
    asked = [(i, said) for i, name in enumerate(names) for said in [said for intent, said in rows if intent == name][:traces]]
    random.Random(0).shuffle(asked)
    return names, asked


def topic_rows(asked: Asked, settings: tuple[Setting, ...] = SETTINGS, replicates: int = 1000) -> list[Row]:
    """A row for each setting. Those that spend their time asleep run side by side, each with a node of its own."""
    found = {one.name: _traces(one, asked) for one in settings if not one.paced}
    paced = [one for one in settings if one.paced]
    with ThreadPoolExecutor(len(paced) or 1) as pool:
        found |= dict(zip([one.name for one in paced], pool.map(lambda one: _traces(one, asked), paced), strict=True))
    return [_row(one, found[one.name], asked, replicates) for one in settings]


def _traces(setting: Setting, asked: Asked) -> list[list[Message]]:
    with node(setting.node) as target, Observer(target.address) as observer:
        shape = replace(target, address=observer.address, padding=setting.padding)
        shape = replace(shape, cadence_ms=setting.cadence_ms, cadence_frames=setting.frames)
        with asker(shape, unpadded="unpadded" in setting.node) as ask:
            found = []
            for _, said in [*asked[:WARM_UP], *asked]:
                ask(said, "call", CALL_TOKENS)
                time.sleep(AFTER_S)
                found.append(observer.take())
    return found[WARM_UP:]


def _row(setting: Setting, traces: list[list[Message]], asked: Asked, replicates: int) -> Row:
    from benchmarks.classifier import features, topic_auc

    x = np.array([features(trace) for trace in traces])
    spent = [1000 * (trace[-1].at_s - trace[0].at_s) for trace in traces]
    size = [sum(one.bytes_ for one in trace) for trace in traces]
    figures = topic_auc(x, np.array([topic for topic, _ in asked]), replicates)
    return {"setting": setting.name, "traces": len(traces), **figures, "median ms": median(spent), "median bytes": median(size)}


def cache_rows(data: Path, pairs: int) -> list[Row]:
    """P(a prompt that somebody else has just asked comes faster than one that nobody has), by the time to its first token."""
    from benchmarks.classifier import paired_auc

    rows = []
    for name, variant in (("our node", "as it ships"), ("an engine with a shared prefix cache (control)", "shared cache")):
        again, fresh = _first_tokens(_stories(data, 2 * pairs), variant, pairs)  # type: ignore[arg-type]
        row: Row = {"prefix cache": name, "pairs": pairs, **paired_auc(again, fresh)}
        rows.append(row | {"again, median ms": 1000 * median(again), "fresh, median ms": 1000 * median(fresh)})
    return rows


def _first_tokens(prompts: list[str], variant: Variant, pairs: int) -> tuple[list[float], list[float]]:
    """Seconds to the first token: of prompts that another client has just asked, and of fresh ones, in random order."""
    order = random.Random(0)
    again: list[float] = []
    fresh: list[float] = []
    with node(variant) as target, asker(target) as victim, asker(target) as attacker:
        for prompt in prompts[:WARM_UP]:
            victim(prompt[:80], "text", 1), attacker(prompt[:90], "text", 1)
        for i in range(pairs):
            known, unknown = prompts[2 * i], prompts[2 * i + 1]
            victim(known, "text", 1)
            probes = [(known, again), (unknown, fresh)]
            order.shuffle(probes)
            for prompt, figures in probes:
                figures.append(attacker(prompt, "text", 1))
    return again, fresh


def _stories(data: Path, n: int) -> list[str]:
    """The beginnings of different stories, 600 characters each."""
    stories = (data / "text" / "tinystories" / "train.txt").read_text().split("<|endoftext|>")
    long = list(dict.fromkeys(story.strip()[:600] for story in stories if len(story.strip()) >= 600))
    return random.Random(1).sample(long, n)


def main() -> None:
    """Print the tables, or one JSON object."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, default=ROOT.parent / "shared" / "data", help="the folder that holds nlu/ and text/")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.add_argument("--quick", action="store_true", help="fewer traces, and no paced answers")
    args = parser.parse_args()
    where = machine()
    if importlib.util.find_spec("sklearn") is None:
        raise SystemExit('skipped: the classifiers are those of scikit-learn; pip install -e ".[bench]"')
    if not (args.data / "nlu").is_dir():
        raise SystemExit(f"skipped: the prompts are made of {args.data}/nlu, which is not there; give --data")
    names, asked = topics(args.data, 20 if args.quick else TRACES)
    caches = cache_rows(args.data, 60 if args.quick else 800)
    settings = tuple(one for one in SETTINGS if not (args.quick and one.paced))
    rows = [*topic_rows(asked, settings, 100 if args.quick else 1000), *caches]
    if args.json:
        print(
            json.dumps({"benchmark": "leakage", "machine": where, "load after": machine()["load"], "topics": names, "rows": rows}, indent=1)
        )
        return
    for title, mark in (("topic from sizes and times", "setting"), ("asked before, from the time to the first token", "prefix cache")):
        show(title, where, [row for row in rows if mark in row])


if __name__ == "__main__":
    main()
