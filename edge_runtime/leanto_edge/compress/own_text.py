"""What a model says when asked nothing: text sampled from the base, on which an adapted model must go on as before.

It stands in for the data that the base was made from, which a device does not have. Knows nothing of training.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from leanto_edge.engine import Engine
from leanto_kernels import sample

LONGEST = 64  # tokens of one text
_SHORTEST = 4

Ids = tuple[int, ...]


def own_text(engine: Engine, seed: int, tokens: int, over: Callable[[float], bool]) -> list[Ids]:
    """Texts of about `tokens` tokens in all, at temperature 1; ends early when `over`, which hears the share done, says so.

    A model that makes calls is asked for utterances, and answers them in the same breath; any other begins with its BOS.
    """
    random = np.random.default_rng(seed)
    texts: list[Ids] = []
    made = 0
    while made < tokens and not over(made / tokens):
        text = _sampled(engine, _start(engine, random), random)
        made += len(text)
        if len(text) >= _SHORTEST:
            texts.append(text)
    return texts


def _start(engine: Engine, random: np.random.Generator) -> Ids:
    if engine.call_form is not None and random.random() < 0.9:
        return (engine.call_form.bos, engine.call_form.user)
    if engine.tokenizer.bos_id is not None:
        return (engine.tokenizer.bos_id,)
    return (int(random.integers(engine.tokenizer.vocab_size)),)  # any piece, for a model that was never given a beginning


def _sampled(engine: Engine, start: Ids, random: np.random.Generator) -> Ids:
    text, room = list(start), min(LONGEST, engine.info.context_length)
    cache = engine.model.new_cache(room)
    logits = engine.model.prefill(cache, np.array(start, np.int32))
    text.append(sample(logits, 1.0, u=random.random())[0])
    while len(text) < room and text[-1] not in engine.shape.eos_ids:
        text.append(engine.model.step(cache, text[-1], 1.0, u=random.random())[0])
    return tuple(text)
