"""What pocket learns on the device, and what it forgets: intents that it took as out of scope become calls of their own.

`python -m benchmarks.adaptation [--data DATA] [--json] [--quick] [--minutes M]`. DATA holds nlu/assistant_{train,valid,test}.jsonl. Train
utterances of some CLINC150 intents teach, those of the test split judge; the rest of the test split tells what was lost.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import leanto_edge
from benchmarks.measure import Row, parser, publish
from leanto_edge import Engine, GenerationRequest, SamplingParams
from leanto_edge.calls import OUT_OF_SCOPE, normalise
from leanto_edge.compress import adapt

# Not those that the settings were chosen by: min_payment, account_blocked, credit_limit, next_holiday, credit_limit_change, bill_due.
SIX = ("insurance", "pto_used", "routing", "redeem_rewards", "report_lost_card", "rewards_balance")
ALONE = (("insurance",), ("report_lost_card",))


def measure(data: Path, minutes: float, intents: Sequence[Sequence[str]] = (*ALONE, SIX)) -> list[Row]:
    """A row for the base and one for each set of new intents."""
    rows = []
    for names in intents:
        rows.append({"model": "pocket", **_scores(leanto_edge.load(leanto_edge.embedded()), data, names)})
        rows.append(_adapted(data, minutes, names))
    return rows


def _adapted(data: Path, minutes: float, names: Sequence[str]) -> Row:
    with tempfile.TemporaryDirectory() as folder:
        examples, out = Path(folder) / "examples.jsonl", Path(folder) / "pocket.adapter"
        taught = [row for split in ("train", "valid") for row in _rows(data, split) if _named(row) in names]
        lines = [{"prompt": row["utterance"], "completion": {"intent": _named(row), "slots": {}}} for row in taught]
        examples.write_text("".join(json.dumps(line) + "\n" for line in lines))
        result = adapt(leanto_edge.embedded(), out, data=examples, minutes=minutes)
        scores = _scores(leanto_edge.load(leanto_edge.embedded(), adapter=out), data, names)
    cost = {"examples": result.examples, "minutes": result.seconds / 60, "steps": result.steps, "adapter_bytes": result.stored_bytes}
    return {"model": "pocket + adapter", **scores, **cost}


def _scores(engine: Engine, data: Path, names: Sequence[str]) -> Row:
    """Shares of the test split that are right: new intents, the old ones, and what stays out of scope."""
    rows = _rows(data, "test")
    new = [row for row in rows if _named(row) in names]
    old = [row for row in rows if row["intent"] != OUT_OF_SCOPE]
    outside = [row for row in rows if row["intent"] == OUT_OF_SCOPE and row not in new]
    calls = [_call(engine, row) for row in old]
    return {
        "new_intents": len(names),
        "new_accuracy": _share(_call(engine, row)["intent"] == _named(row) for row in new),
        "old_intent_accuracy": _share(call["intent"] == row["intent"] for call, row in zip(calls, old, strict=True)),
        "old_exact_match": _share(_said(call) == _said(row) for call, row in zip(calls, old, strict=True)),
        "out_of_scope_recall": _share(_call(engine, row)["intent"] == OUT_OF_SCOPE for row in outside),
        "rows": f"{len(new)} + {len(old)} + {len(outside)}",
    }


def _call(engine: Engine, row: Row) -> dict[str, Any]:
    text = engine.complete(GenerationRequest(row["utterance"], "call", SamplingParams(max_tokens=96))).text
    return {"intent": None, **json.loads(text or "{}")}


def _said(call: Row) -> Any:
    """Intent and (slot, value) pairs, written as the model would."""
    listed = {name: said if isinstance(said, list) else [said] for name, said in call.get("slots", {}).items()}
    return call["intent"], {name: sorted(map(normalise, values)) for name, values in listed.items()}


def _named(row: Row) -> str:
    """The intent that CLINC150 gave a row, before it became out of scope."""
    return str(row["source"]).partition(":")[2]


def _rows(data: Path, split: str) -> list[Row]:
    return [json.loads(line) for line in (data / "nlu" / f"assistant_{split}.jsonl").read_text().splitlines()]


def _share(found: Iterable[bool]) -> float:
    right = list(found)
    return sum(right) / len(right)


def main() -> None:
    """Print the table, or one JSON object."""
    options = parser(__doc__, data="nlu/")
    options.add_argument("--minutes", type=float, default=3.0, help="for each adaptation (default: 3; quick: half a minute)")
    args = options.parse_args()
    publish([("adaptation", lambda: measure(args.data, 0.5 if args.quick else args.minutes))], as_json=args.json)


if __name__ == "__main__":
    main()
