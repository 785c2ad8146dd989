"""What a model says when asked nothing: text sampled from the base, on which an adapted model must go on as before.

It stands in for the data that the base was made from, which a device does not have. A model that makes calls is asked for utterances and
answers them in the same breath; there only the call counts. Knows nothing of training.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from leanto_edge.calls import OUT_OF_SCOPE, CallForm
from leanto_edge.compress.examples import Example
from leanto_edge.engine import Engine
from leanto_kernels import sample

LONGEST = 64  # tokens of one text
_SHORTEST = 4

_COOL = 0.8  # temperature
_CALLS = 0.9  # of the texts of a model that makes calls

Ids = tuple[int, ...]


def own_text(engine: Engine, seed: int, tokens: int, over: Callable[[float], bool]) -> list[Example]:
    """Texts of about `tokens` tokens in all; ends early when `over`, which hears the share done, says so."""
    random = np.random.default_rng(seed)
    texts: list[Example] = []
    made = 0
    while made < tokens and not over(made / tokens):
        start = _start(engine, random)
        ids = _sampled(engine, start, random)
        made += len(ids)
        form = engine.call_form
        spoken = form is not None and start[-1] == form.user
        if spoken and form is not None and form.call in ids[:-1]:
            texts.append(Example(ids, ids.index(form.call) + 1))
        elif not spoken and len(ids) >= _SHORTEST:
            texts.append(Example(ids, 1))
    return texts


def evened(texts: list[Example], form: CallForm | None) -> list[Example]:
    """The texts, those that the base took as out of scope so often that they are half: what an adapter teaches has its neighbours there."""
    outside = [text for text in texts if form is not None and text.ids[text.start] == form.intents.get(OUT_OF_SCOPE)]
    others = len(texts) - len(outside)
    return texts + outside * max(0, others // len(outside) - 1) if outside else texts


def _start(engine: Engine, random: np.random.Generator) -> Ids:
    if engine.call_form is not None and random.random() < _CALLS:
        return (engine.call_form.bos, engine.call_form.user)
    if engine.tokenizer.bos_id is not None:
        return (engine.tokenizer.bos_id,)
    return (int(random.integers(engine.tokenizer.vocab_size)),)  # any piece, for a model that was never given a beginning


def _sampled(engine: Engine, start: Ids, random: np.random.Generator) -> Ids:
    text, room = list(start), min(LONGEST, engine.info.context_length)
    cache = engine.model.new_cache(room)
    logits = engine.model.prefill(cache, np.array(start, np.int32))
    text.append(sample(logits, _COOL, u=random.random())[0])
    while len(text) < room and text[-1] not in engine.shape.eos_ids:
        text.append(engine.model.step(cache, text[-1], _COOL, u=random.random())[0])
    return tuple(text)
