"""`leanto bench energy`: joules a token of a model on this machine, by its meter. The work is leanto.signals.token_energy."""

from __future__ import annotations

import argparse
import json
from dataclasses import asdict
from functools import partial

from leanto.clock import Clock
from leanto.errors import UserError
from leanto.local.run import EdgeModel, open_model
from leanto.signals.energy import JOULES_PER_CPU_SECOND, best_meter
from leanto.signals.token_energy import TokenEnergy, file_name, fit, measure, write
from leanto.state import state_file

SENTENCE = "Once upon a time there was a little girl who lived near a forest. "
SHORT, LONG = 8, 64  # tokens of an answer


def run(options: argparse.Namespace) -> int:
    """Exit code 0 once it is written."""
    meter = best_meter()
    if meter.source == "estimate":
        raise UserError(
            "no meter can be read here: RAPL (/sys/class/powercap) needs its files readable, a battery must be drawn from;"
            f" energy stays an estimate of {JOULES_PER_CPU_SECOND:g} J for each CPU second"
        )
    engine = open_model(options.model)
    context = engine.info.context_length - LONG
    sentence = len(engine.tokenizer.encode(SENTENCE))
    prompts = (SENTENCE, SENTENCE * max(1, min(512, context // 2) // sentence))
    work = [partial(_generate, engine, prompt, tokens) for prompt in prompts for tokens in (SHORT, LONG)]
    samples = [measure(meter, generate, seconds=options.seconds, clock=Clock()) for generate in work]
    found = fit(engine.info.build_hash, meter.source, samples)
    path = options.out or state_file(file_name(found.build_hash))
    write(path, found)
    print(json.dumps({**asdict(found), "path": str(path)}) if options.json else _said(found, str(path)))
    return 0


def _generate(engine: EdgeModel, prompt: str, tokens: int) -> tuple[int, int]:
    from leanto_edge import GenerationRequest, SamplingParams

    task = engine.info.tasks[-1] if "text" not in engine.info.tasks else "text"
    made = sum(1 for _ in engine.generate(GenerationRequest(prompt, task, SamplingParams(tokens))))
    return len(engine.tokenizer.encode(prompt)), made


def _said(found: TokenEnergy, path: str) -> str:
    each = f"{1000 * found.prompt_token_j:.3g} mJ for each token of a prompt, {1000 * found.answer_token_j:.3g} mJ for each of an answer"
    return f"{each} ({found.source}; off by {found.error:.0%} in the mean)\nwritten to {path}"
