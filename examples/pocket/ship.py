"""From two trained folders to what the package ships: compress, calibrate the confidence, score on the test split, write the cards.

`python ship.py --data DATA --pocket TRAINED --large TRAINED --out MODELS [--bits 2]`. Needs the `compress` extra.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import certify
import corpus
from evaluate import answer, is_exact, scores
from tokenizers import Tokenizer

import leanto_edge
from leanto.confidence import fit
from leanto_edge.artifact import annotate_artifact
from leanto_edge.calls import CallForm, CallSchema
from leanto_edge.compress import compress

CALIBRATION_COMMANDS, CALIBRATION_STORIES = 6000, 300
PRECISION = 0.95  # of the answers that pocket keeps, as measured on the validation split


def main() -> None:
    """Write MODELS/pocket and MODELS/pocket-large."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--pocket", type=Path, required=True)
    parser.add_argument("--large", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--bits", type=int, default=2)
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    sample = args.out / "calibration.jsonl"
    write_calibration(args.data, args.pocket, sample)
    test, stories = corpus.rows(args.data, "test"), corpus.stories(args.data, "valid")
    for name, trained, bits in (("pocket", args.pocket, args.bits), ("pocket-large", args.large, 8)):
        before = scores(leanto_edge.load(trained), test, stories)
        compress(trained, args.out / name, calibration=sample, bits=bits, uniform=True, name=name)
        engine = leanto_edge.load(args.out / name)
        after = scores(engine, test, stories)
        confidence = {"call": calibrate(engine, corpus.rows(args.data, "valid"))}
        manifest = json.loads((args.out / name / "leanto.json").read_text())
        annotate_artifact(args.out / name, confidence=confidence, quality={**manifest["quality"], "float32": before, "shipped": after})
        card = (Path(__file__).parent / f"{name}.md").read_text()
        (args.out / name / "MODEL_CARD.md").write_text(card + table(before, after, manifest, confidence["call"]))
        print(json.dumps({"model": name, "float32": before, "shipped": after}, indent=1), flush=True)
    print(json.dumps({"certificate_key": certify.promise(args.out, args.data)}))  # goes into leanto.policy.schema.RELEASE_KEY
    sample.unlink()


def write_calibration(data: Path, trained: Path, path: Path) -> None:
    """Commands with their calls, and stories, as token ids: what the Hessians are measured on."""
    form = CallForm(CallSchema.from_json((trained / "calls.json").read_text()), Tokenizer.from_file(str(trained / "tokenizer.json")))
    commands = [found.ids for row in corpus.rows(data, "train")[:CALIBRATION_COMMANDS] if (found := corpus.example(form, row))]
    tales = [[form.bos, *form.tokenizer.encode(story.strip()).ids] for story in corpus.stories(data, "train")[:CALIBRATION_STORIES]]
    path.write_text("".join(json.dumps(ids) + "\n" for ids in commands + tales))


def calibrate(engine: leanto_edge.Engine, rows: list[corpus.Row]) -> dict[str, Any]:
    """P(this call is exactly right) from the evidence of its tokens, fitted on held-out commands."""
    answers = [(row, answer(engine, row)) for row in rows]
    return fit([(completion.tokens, is_exact(row, completion)) for row, completion in answers], precision=PRECISION)


def table(before: dict[str, Any], after: dict[str, Any], manifest: dict[str, Any], confidence: dict[str, Any]) -> str:
    """The figures of the card, as Markdown."""
    lines = ["", "## Figures", "", "| on the test split | float32 | as shipped |", "| --- | --- | --- |"]
    for key in ("intent_accuracy", "slot_f1", "exact_match", "story_perplexity"):
        lines.append(f"| {key.replace('_', ' ')} | {before[key]:.3f} | {after[key]:.3f} |")
    for source in before["exact_match_by_source"]:
        lines.append(
            f"| exact match, {source} | {before['exact_match_by_source'][source]:.3f} | {after['exact_match_by_source'][source]:.3f} |"
        )
    size = f"{manifest['parameters']:,} parameters, {manifest['stored_bytes']:,} bytes on disk in all"
    lines += ["", f"{size}, {manifest['bits_per_weight']:.2f} bits per weight with everything in the weight file counted.", ""]
    quality = f"AUROC {confidence['auroc']:.3f}, expected calibration error {confidence['ece']:.3f}"
    lines += [f"Confidence in a call (validation split, out of fold): {quality}, threshold {confidence['threshold']:.3f}."]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
