"""`leanto calibrate`: a local model answers labelled prompts and learns how sure it may be. The work is leanto.confidence."""

from __future__ import annotations

import argparse
import json
import random
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from leanto.certificates.agreement import DISAGREEMENT, same
from leanto.certificates.certified import score_name
from leanto.cli.options import add_report
from leanto.cli.output import check_new, write_new
from leanto.errors import CertificateError, ModelError, OutputError
from leanto.jsonl import read_rows

if TYPE_CHECKING:
    from leanto_edge import Engine, Token

FORM = 'one JSON object a line: {"prompt": …, "completion": the right answer, "cloud": the cloud\'s answer}, one of the two at least'
TOKENS = 96
LEARNT = 1 / 3  # of the lines, where the others are to be certified


@dataclass(frozen=True, slots=True)
class Example:
    """A prompt, and what is known of its answers: None is not."""

    prompt: str = field(repr=False)
    right: Any = field(default=None, repr=False)
    cloud: Any = field(default=None, repr=False)


@dataclass(frozen=True, slots=True)
class Answer:
    """A local answer's evidence. `right`: whether it is the right one, or the cloud's where that is all that is known; `differs` from the
    cloud's, None where that is not known."""

    tokens: list[Token]
    right: bool
    differs: bool | None


def add(commands: Any) -> None:
    """Add the command."""
    about = "Let a local model answer prompts whose answers are known, and fit the confidence that it may have in its own."
    parser = commands.add_parser("calibrate", help="how sure a model may be", description=about)
    parser.add_argument("pairs", metavar="PAIRS", help=FORM)
    parser.add_argument("--model", metavar="ARTIFACT", help="artifact to calibrate (default: embedded, which is only looked at)")
    parser.add_argument("--task", choices=("call", "text"), default="call", help="what it is asked for (default: call)")
    parser.add_argument("--write", action="store_true", help="keep the result in the artifact; needs --model")
    parser.add_argument(
        "--certify", metavar="FILE", help="fit on a third, and write the rest as pairs for `leanto certify` (must not exist)"
    )
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="of the choice of that third (default: 0)")
    parser.add_argument("--json", action="store_true", help="the result as JSON")
    add_report(parser)
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Exit code 0 once the confidence is fitted, and written where that was asked."""
    import leanto_edge
    from leanto.confidence import fit, predict_in_stream

    if options.write and options.model is None:
        raise ModelError("--write needs --model: the embedded model is not changed")
    if options.certify:
        check_new(options.certify)
    rows = read_examples(options.pairs)
    random.Random(options.seed).shuffle(rows)
    try:
        engine = leanto_edge.load(options.model or leanto_edge.embedded())
        if options.task == "call" and engine.call_form is None:
            raise ModelError(f"{engine.info.name}: makes no calls; choose --task text")
        found = list(answers(engine, rows, options.task))
        fitting = [(one.tokens, one.right) for one in found]
    except leanto_edge.EdgeError as error:
        raise ModelError(f"{options.model or 'the embedded model'}: cannot be calibrated: {error}") from None
    learnt = round(len(found) * LEARNT) if options.certify else len(found)
    try:
        model = fit(fitting[:learnt])
    except ValueError as error:
        raise CertificateError(f"{options.pairs}: {error}") from None
    if options.certify:
        named = {"task": options.task, "score_name": score_name(model)}
        pairs = [{"score": predict_in_stream(model, one.tokens), **_label(one), **named} for one in found[learnt:]]
        write_new(options.certify, "".join(json.dumps(pair) + "\n" for pair in pairs))
    if options.report:
        from leanto.report import calibration_page, held_out, write

        write(calibration_page(engine.info.name, held_out(fitting), model["threshold"]), options.report)
    if options.write:
        _annotate(options.model, {**engine.info.confidence, options.task: model})
    print(json.dumps({options.task: model}) if options.json else describe(model, found, options))
    return 0


def read_examples(path: str) -> list[Example]:
    """Each line. Raises CertificateError naming the one that is none."""
    return read_rows(path, _example, form=FORM, error=CertificateError)


def answers(engine: Engine, rows: list[Example], task: Literal["call", "text"]) -> Iterator[Answer]:
    """Each greedy answer, held against what is known; one without tokens is left out."""
    from leanto_edge import GenerationRequest, SamplingParams

    for row in rows:
        done = engine.complete(GenerationRequest(row.prompt, task, SamplingParams(max_tokens=TOKENS)))
        if done.tokens:
            differs = None if row.cloud is None else not same(done.text, row.cloud)
            yield Answer(list(done.tokens), not differs if row.right is None else same(done.text, row.right), differs)


def describe(model: dict[str, Any], found: list[Answer], options: argparse.Namespace) -> str:
    """What came of it, as a table."""
    right = sum(one.right for one in found) / len(found)
    rows = [
        ("answers", f"{len(found):,}, of which {right:.1%} are as given; fitted on {model['rows']:,}"),
        ("separates", f"AUROC {model['auroc']:.3f}"),
        ("means it", f"expected calibration error {model['ece']:.3f}"),
        ("threshold", f"{model['threshold']:.3f} keeps answers of which 95 % were right; `leanto certify` finds one that is guaranteed"),
    ]
    rows += [("written", options.model)] if options.write else []
    if options.certify:
        model_option = f" --model {options.model}" if options.write else ""
        later = "" if options.write else "; only to look at: without --write no model gives these scores"
        rows.append(("certify", f"leanto certify {options.certify} --task {options.task}{model_option}{later}"))
    return "\n".join(f"{label:<12} {value}" for label, value in rows)


def _example(row: dict[str, Any]) -> Example:
    known = {name: row[name] for name in ("completion", "cloud") if name in row}
    if not isinstance(row["prompt"], str) or not known or not all(isinstance(one, str | dict) for one in known.values()):
        raise TypeError
    return Example(row["prompt"], known.get("completion"), known.get("cloud"))


def _label(answer: Answer) -> dict[str, bool]:
    """By the cloud's answer where that is known, for an audit can see as much; else by the right one."""
    return {"wrong": not answer.right} if answer.differs is None else {DISAGREEMENT: answer.differs}


def _annotate(path: str, confidence: dict[str, Any]) -> None:
    from leanto_edge import ArtifactError
    from leanto_edge.artifact import annotate_artifact

    try:
        annotate_artifact(path, confidence=confidence)
    except (ArtifactError, OSError) as error:
        raise OutputError(f"{path}: the confidence cannot be written: {error}", path=path) from None
