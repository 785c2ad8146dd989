"""Whole models at equal bytes: KL divergence from the teacher, ours and llama.cpp's quantizers, on the same held-out text.

`python -m benchmarks.compression [--quantizer LLAMA_QUANTIZE] [--teachers DIR] [--data DIR] [--seeds 3] [--json FILE]`. Models: the
pocket pair as trained (`DIR/pocket`, `DIR/pocket-large`; without --teachers the pocket-large that is shipped, dequantized) and stories260K;
then single matrices of GPT-2 (benchmarks.matrices). Every seed draws its own calibration and held-out documents, for all alike.
"""

from __future__ import annotations

import argparse
import copy
import itertools
import json
import statistics
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from benchmarks import matrices
from benchmarks.measure import Row, machine, show
from leanto_edge.artifact.layout import matrix_sizes, vector_sizes
from leanto_edge.artifact.manifest import CONFIG, WEIGHTS, as_json
from leanto_edge.compress import compress, dequantized_model
from leanto_edge.compress.calibration import Calibration, read_calibration
from leanto_edge.compress.report import Quality, measure_quality
from leanto_edge.compress.settings import Settings
from leanto_edge.compress.source import Source, load_source

ROOT = Path(__file__).parents[1]
SHIPPED = ROOT / "edge_runtime" / "leanto_edge" / "models"


@dataclass(frozen=True, slots=True)
class Case:
    """A model, its text, the budgets (bits per weight of the weight file) to compress it to, and minutes of recovery."""

    name: str
    teacher: Path
    calibration: Path
    budgets: tuple[float, ...]
    recover_minutes: float


def measure(case: Case, seeds: int, quantizer: str | None, work: Path) -> Iterator[Row]:
    """Rows of one model: the peers with every draw of its text, then ours, budget by budget."""
    teacher = load_source(case.teacher)
    parameters = sum(rows * cols for rows, cols in matrix_sizes(teacher.shape).values()) + sum(vector_sizes(teacher.shape).values())
    for seed in range(seeds if quantizer else 0):
        text = _text(teacher, case.calibration, seed)
        for name, size, quality in _peers(teacher, text, str(quantizer), work):
            yield _row(case, seed, name, size, 8 * size / parameters, quality)
    for bits, seed in itertools.product(case.budgets, range(seeds)):
        out = work / f"{case.name}-{bits}-{seed}"
        report = compress(
            case.teacher, out, calibration=case.calibration, bits=bits, seed=seed, recover_minutes=case.recover_minutes, name=case.name
        )
        size = true_bytes(out)
        assert report.untuned is not None
        for name, quality in (("leanto", report.untuned), (f"leanto, {case.recover_minutes:g} min", report.quality)):
            yield _row(case, seed, name, size, 8 * size / parameters, quality) | {"seconds": report.seconds}


def true_bytes(artifact: Path) -> int:
    """The weight file and what config.json says of how each matrix is stored: a GGUF file too is counted with its description."""
    config = json.loads((artifact / CONFIG).read_bytes())
    plain = {key: value for key, value in config.items() if key != "quantization_config"}
    return (artifact / WEIGHTS).stat().st_size + len(as_json(config)) - len(as_json(plain))


def _text(teacher: Source, path: Path, seed: int) -> Calibration:
    """The documents that `compress` draws for this seed."""
    settings = Settings()
    return read_calibration(
        path,
        teacher.tokenizer,
        vocab_size=teacher.shape.vocab_size,
        longest=min(settings.document_tokens, teacher.shape.context_length),
        tokens=settings.calibration_tokens,
        held_out_tokens=settings.held_out_tokens,
        seed=seed,
    )


def _peers(teacher: Source, text: Calibration, quantizer: str, work: Path) -> Iterator[tuple[str, int, Quality]]:
    """Every type of llama-quantize that it makes of this model, with the importance matrix and, named so, without."""
    from benchmarks.peers import quantizers as peers

    plain, importance = work / "plain.gguf", work / "importance.dat"
    plain.unlink(missing_ok=True)
    peers.write_gguf(teacher, plain)
    peers.write_importance(teacher, text, importance)
    student = copy.deepcopy(teacher.model)
    for kind in peers.TYPES:
        for name, matrix in ((kind, importance), (f"{kind}, no imatrix", None)):
            made = work / f"{kind}.gguf"
            try:
                size = peers.quantize(quantizer, plain, made, kind, matrix)
                weights = peers.dequantized(quantizer, made, teacher)
            except peers.QuantizerError as error:
                print(f"skipped: {error}", flush=True)
                continue
            finally:
                made.unlink(missing_ok=True)
            state = student.state_dict()
            for tensor, weight in weights.items():
                state[tensor].copy_(torch.from_numpy(weight))
            yield name, size, measure_quality(teacher.model, student, text.held_out)
            break  # without an importance matrix only where none can be used


def _row(case: Case, seed: int, method: str, size: int, bits: float, quality: Quality) -> Row:
    change = 100 * (quality.perplexity_after / quality.perplexity_before - 1)
    figures = {"kl": quality.kl_mean, "kl p99": quality.kl_p99, "top-1": quality.top1_agreement, "perplexity %": change}
    return {"model": case.name, "method": method, "seed": seed, "bytes": size, "bits": bits} | figures


def summary(rows: list[Row]) -> list[Row]:
    """Means over the seeds, with the spread of KL, by model and size."""
    groups: dict[tuple[str, str, float], list[Row]] = {}
    for row in rows:
        groups.setdefault((row["model"], row["method"], round(row["bits"], 1)), []).append(row)
    found = []
    for (model, method, _), group in groups.items():
        kl = [row["kl"] for row in group]
        means = {name: statistics.fmean(row[name] for row in group) for name in ("bytes", "bits", "kl", "top-1", "perplexity %")}
        found.append({"model": model, "method": method, "seeds": len(group)} | means | {"kl stdev": statistics.pstdev(kl)})
    return sorted(found, key=lambda row: (row["model"], row["bytes"]))


def cases(teachers: Path | None, data: Path, work: Path) -> Iterator[Case]:
    """What there is to compress."""
    sys.path.append(str(ROOT / "examples" / "pocket"))
    from ship import write_calibration

    if teachers is None:
        teachers = work
        dequantized_model(SHIPPED / "pocket-large").save_pretrained(work / "pocket-large")
        for file in ("tokenizer.json", "tokenizer_config.json", "calls.json"):
            (work / "pocket-large" / file).write_bytes((SHIPPED / "pocket-large" / file).read_bytes())
    sample = work / "calibration.jsonl"
    write_calibration(data, teachers / "pocket-large", sample)
    yield Case("pocket-large", teachers / "pocket-large", sample, (2.48, 3.23, 4.0), 1.0)
    if (teachers / "pocket").is_dir():
        yield Case("pocket", teachers / "pocket", sample, (2.3, 3.0, 4.0), 1.0)
    yield Case("stories260K", data / "models" / "stories260K", data / "text" / "tinystories" / "valid.txt", (3.0, 5.25, 5.8), 1.0)


def main() -> None:
    """A row as soon as it is measured, then the tables; everything into the file of --json."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quantizer", help="path of llama-quantize (of the ik-llama-cpp-python wheel); without it only ours are measured")
    parser.add_argument("--teachers", type=Path, help="folder with the float32 models pocket and pocket-large")
    parser.add_argument("--data", type=Path, default=ROOT.parent / "shared" / "data", help="folder with models, text, matrices")
    parser.add_argument("--models", nargs="*", help="only these models, by name; an empty list for the matrices alone")
    parser.add_argument("--bits", nargs="*", type=float, help="only these budgets")
    parser.add_argument("--no-matrices", action="store_true")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--json", type=Path, metavar="FILE")
    args = parser.parse_args()
    where, rows = machine(), []
    with tempfile.TemporaryDirectory() as folder:
        for case in cases(args.teachers, args.data, Path(folder)):
            if args.models is not None and case.name not in args.models:
                continue
            if args.bits is not None:
                case = replace(case, budgets=tuple(bits for bits in case.budgets if bits in args.bits))
            for row in measure(case, args.seeds, args.quantizer, Path(folder)):
                rows.append(row)
                print(json.dumps(row), flush=True)
    result: dict[str, Any] = {"machine": where, "rows": rows, "summary": summary(rows)}
    show("whole models", where, result["summary"])
    if not args.no_matrices:
        single = list(matrices.measure(matrices.load(args.data / "matrices" / "gpt2_attention_12.safetensors"), args.seeds, quick=False))
        result["matrices"] = {"rows": single, "summary": matrices.summary(single)}
        show("matrices", where, result["matrices"]["summary"])
    if args.json:
        args.json.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
