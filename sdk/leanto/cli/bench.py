"""`leanto bench decode`: how fast a model is on this machine, what it holds in memory, and how soon its first token comes. For
`leanto bench energy` see bench_energy.
"""

from __future__ import annotations

import argparse
import json
import time
from dataclasses import asdict
from typing import Any

import psutil

from leanto.cli import bench_energy
from leanto.errors import UserError
from leanto.local.run import open_model


def add(commands: Any) -> None:
    """Add the command."""
    about = (
        "Measure a model on this machine. decode: speed and memory; random tokens, medians of five rounds, `--threads 1 2` compares."
        " energy: joules a token by the machine's meter, kept for when there is none to read; let the machine do nothing else meanwhile."
    )
    parser = commands.add_parser("bench", help="measure speed, memory and energy here", description=about)
    parser.add_argument("what", choices=("decode", "energy"), help="what to measure of the local model")
    parser.add_argument("--model", metavar="PATH", help="artifact or Hugging Face folder (default: embedded)")
    parser.add_argument("--threads", metavar="N", type=int, nargs="+", help="thread counts (default: 1, and all that this process may use)")
    parser.add_argument("--context", metavar="N", type=int, nargs="+", default=[16, 128], help="prompt lengths (default: 16 128)")
    parser.add_argument("--tokens", metavar="N", type=int, default=32, help="tokens to make behind each prompt (default: 32)")
    parser.add_argument("--seconds", metavar="S", type=float, default=5.0, help="energy: how long to measure each of four (default: 5)")
    parser.add_argument("--out", metavar="FILE", help="energy: where to write it (default: the user's state folder, where clients look)")
    parser.add_argument("--json", action="store_true", help="one JSON object")
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Exit code 0."""
    if options.what == "energy":
        return bench_energy.run(options)
    import leanto_kernels
    from leanto_edge import GenerationRequest
    from leanto_edge.engine import available_cpus
    from leanto_edge.speed import measure_speed

    engine: Any = open_model(options.model)
    next(engine.generate(GenerationRequest("Once upon a time", task="text")))
    first_token_s = time.time() - psutil.Process().create_time()
    try:
        rows = [
            asdict(measure_speed(engine, threads=threads, context=context, tokens=options.tokens))
            for threads in options.threads or sorted({1, available_cpus()})
            for context in options.context
        ]
    except ValueError as error:
        raise UserError(str(error)) from None
    info, resident = engine.info, psutil.Process().memory_info().rss
    found = {
        "model": info.name,
        "build_hash": info.build_hash,
        "stored_bytes": info.stored_bytes,
        "bits_per_weight": info.bits_per_weight,
        "instruction_set": leanto_kernels.isa(),
        "first_token_s": round(first_token_s, 3),
        "resident_bytes": resident,
        "speeds": rows,
    }
    print(json.dumps(found) if options.json else _table(found))
    return 0


def _table(found: dict[str, Any]) -> str:
    """For a terminal."""
    lines = [
        f"{found['model']}  {found['stored_bytes']:,} bytes, {found['bits_per_weight']:.2f} bits per weight, {found['instruction_set']}",
        f"first token {found['first_token_s']:.2f} s after the process began, which now holds {found['resident_bytes'] / 1e6:.0f} MB",
        "",
        f"{'threads':>7}  {'context':>7}  {'prefill tok/s':>13}  {'decode tok/s':>12}",
    ]
    lines += [f"{row['threads']:>7}  {row['context']:>7}  {row['prefill']:>13,.0f}  {row['decode']:>12,.0f}" for row in found["speeds"]]
    return "\n".join(lines)
