"""What a model says when asked nothing: text sampled from the base, on which an adapted model must go on as before.

It stands in for the data that the base was made from, which a device does not have. A model that makes calls is asked for utterances and
answers them in the same breath; there only the call counts. Knows nothing of training.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from leanto_edge.calls import OUT_OF_SCOPE, CallForm
from leanto_edge.compress.examples import Example
from leanto_edge.engine import Engine
from leanto_kernels import sample

LONGEST = 64  # tokens of one text
_SHORTEST = 4

_COOL = 0.8  # temperature
_NEAR = 0.5
_CALLS = 0.9  # of the texts of a model that makes calls

Ids = tuple[int, ...]


def own_text(engine: Engine, prompts: Sequence[Ids], seed: int, tokens: int, over: Callable[[float], bool]) -> list[Example]:
    """Texts of about `tokens` tokens in all; ends early when `over`, which hears the share done, says so.

    Half of the utterances begin like one of the user's `prompts`: next to what is learnt, most is to stay as it was.
    """
    random = np.random.default_rng(seed)
    texts: list[Example] = []
    made = 0
    while made < tokens and not over(made / tokens):
        form = engine.call_form if random.random() < _CALLS else None
        ids = _sampled(engine, _start(engine, random) if form is None else _asked(form, prompts, random), random)
        made += len(ids)
        if form is not None and form.call in ids[:-1]:
            texts.append(Example(ids, ids.index(form.call) + 1))
        elif form is None and len(ids) >= _SHORTEST:
            texts.append(Example(ids, 1))
    return texts


def evened(texts: list[Example], form: CallForm | None) -> list[Example]:
    """The texts, those that the base took as out of scope so often that they are half: what an adapter teaches has its neighbours there."""
    outside = [text for text in texts if form is not None and text.ids[text.start] == form.intents.get(OUT_OF_SCOPE)]
    others = len(texts) - len(outside)
    return texts + outside * max(0, others // len(outside) - 1) if outside else texts


def _asked(form: CallForm, prompts: Sequence[Ids], random: np.random.Generator) -> Ids:
    """The beginning of an utterance: nothing yet, or up to half of the words of one of `prompts`."""
    if not prompts or random.random() >= _NEAR:
        return (form.bos, form.user)
    words = prompts[int(random.integers(len(prompts)))][2:-1]  # what lies between <user> and <call>
    return (form.bos, form.user, *words[: int(random.integers(1, max(2, len(words) // 2)))])


def _start(engine: Engine, random: np.random.Generator) -> Ids:
    """The beginning of a text."""
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
