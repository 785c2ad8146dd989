"""Adaptation: the engine with an adapter is the model that was trained, a tiny model learns, and bad examples are named by their line."""

from __future__ import annotations

import json
from collections.abc import Iterator
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import leanto_edge
from architectures import ARCHITECTURES, tiny_config, write_teacher
from artifacts import CONFIG, byte_tokenizer, tiny_shape
from leanto_edge import AdapterError, ArtifactError
from leanto_edge.adapter import largest_ranks, write_adapter
from leanto_edge.artifact import Artifact, read_artifact, write_artifact
from leanto_edge.artifact.layout import EMBEDDING, HEAD, MatrixSpec, expected_tensors, matrix_sizes
from leanto_edge.compress import adapt, dequantized_model
from leanto_edge.compress.adaptable import Adaptable
from leanto_edge.compress.adaptation import _stored
from leanto_edge.compress.examples import Example, read_examples
from leanto_edge.compress.own_text import evened, own_text
from leanto_kernels import tables

# Engine (int8 activations, float16 factors) against torch in float32: root mean square of the difference over that of the logits.
ENGINE_BOUND = 0.03
DENSE_BOUND = 0.002  # of a model without codes: float16 factors alone
ROUNDING = 0.005  # a sum in another order may round an int8 activation the other way
IDS = [0, 66, 67, 68, 69, 70, 71, 72]


def write_kind(path: Path, kind: Any, bits: int, rank: int, factor_bits: int, seeds: tuple[int, int], tied: bool) -> Artifact:
    """A well-behaved artifact of one kind of matrices."""
    config = {**CONFIG, "tie_word_embeddings": tied}
    random = np.random.default_rng(3)
    specs = {}
    for name, (rows, cols) in matrix_sizes(tiny_shape(config)).items():
        table = name in (EMBEDDING, HEAD)
        its_rank, its_bits = (0, 16) if table else (rank, factor_bits)
        turned = (0, 0) if kind == "dense" or table else seeds
        specs[name] = MatrixSpec(kind, bits, rows, cols, its_rank, *turned, its_bits)
    tensors: dict[str, Any] = {}
    for name, spec in expected_tensors(tiny_shape(config), specs).items():
        module, _, part = name.rpartition(".")
        if part in ("tables", "factor_tables"):
            tensors[name] = tables(4) if part == "factor_tables" else tables(bits, kind=kind)
        elif "U8" in spec.dtypes:
            tensors[name] = random.integers(0, 256, spec.shape).astype(np.uint8)
        elif "I8" in spec.dtypes:
            tensors[name] = random.integers(-127, 128, spec.shape).astype(np.int8)
        elif part == "weight" and module not in specs:
            tensors[name] = np.ones(spec.shape, np.float32)
        elif part == "weight":
            tensors[name] = (random.standard_normal(spec.shape) * spec.shape[1] ** -0.5).astype(np.float32)
        elif part in ("left", "right"):
            tensors[name] = (random.standard_normal(spec.shape) * 0.05).astype(np.float16)
        else:
            tensors[name] = np.full(spec.shape, 0.002, np.float16)
    return write_artifact(path, config, specs, tensors, {"tokenizer.json": byte_tokenizer()}, {})


@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize(
    ("kind", "bits", "rank", "factor_bits", "seeds"),
    [
        ("trellis", 2, 0, 16, (7, 9)),
        ("trellis", 3, 8, 4, (7, 9)),
        ("trellis", 2, 4, 8, (7, 0)),
        ("additive", 2, 4, 16, (7, 9)),
        ("scalar", 4, 4, 8, (0, 9)),
        ("int8", 8, 0, 16, (0, 0)),
        ("int8", 8, 4, 16, (7, 9)),
        ("dense", 32, 0, 16, (0, 0)),
    ],
)
def test_the_engine_with_an_adapter_is_the_model_that_was_trained(
    kind: str, bits: int, rank: int, factor_bits: int, seeds: tuple[int, int], tied: bool, tmp_path: Path
) -> None:
    difference, change = compared(write_kind(tmp_path / "base", kind, bits, rank, factor_bits, seeds, tied), tmp_path / "a")
    assert difference < ENGINE_BOUND < change / 5


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_every_architecture_is_adapted(architecture: str, tmp_path: Path) -> None:
    write_teacher(tmp_path / "base", tiny_config(architecture))
    difference, change = compared(read_artifact(tmp_path / "base"), tmp_path / "a")
    assert difference < DENSE_BOUND < change / 5


def compared(base: Artifact, out: Path) -> tuple[float, float]:
    """How far the engine with an adapter is from torch's, and torch's from the base; root mean squares relative to the logits."""
    model = dequantized_model(base.path)
    plain = model(torch.tensor([IDS])).logits[0].numpy()
    learner = Adaptable(model, dict.fromkeys(largest_ranks(base), 3), torch.Generator().manual_seed(1))
    with torch.no_grad():
        for left in learner.parameters()[::2]:
            left.normal_(0, 0.2, generator=torch.Generator().manual_seed(2))
        theirs = learner._logits([Example((*IDS, 0), 1)]).numpy()
    write_adapter(out, base, _stored(base, learner.factors()), training={})
    ours = leanto_edge.load(base.path, adapter=out).logits(IDS)
    scale = np.sqrt(np.mean(np.square(theirs)))
    return tuple(float(np.sqrt(np.mean(np.square(other - theirs))) / scale) for other in (ours, plain))  # type: ignore[return-value]


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    """More of them cost more than they give in models this small, and sum in an order of their own."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


class Ticks:
    """A clock that moves on by a second each time it is read."""

    def __init__(self) -> None:
        self._seconds: Iterator[int] = count()

    def __call__(self) -> float:
        return float(next(self._seconds))


@pytest.fixture
def examples(tmp_path: Path) -> Path:
    rows = [{"prompt": f"say {letter}", "completion": " hello"} for letter in "abcdefghijklmnop"]
    return write(tmp_path / "examples.jsonl", rows)


def write(path: Path, rows: list[Any]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


@pytest.fixture
def base(tmp_path: Path) -> Artifact:
    return write_kind(tmp_path / "base", "trellis", 2, 4, 16, (7, 9), True)


def test_a_tiny_model_learns_its_examples_and_stays_near_its_base(base: Artifact, examples: Path, tmp_path: Path) -> None:
    heard: list[tuple[str, int]] = []
    result = adapt(
        base.path,
        tmp_path / "a",
        data=examples,
        minutes=2,
        rank=4,
        clock=Ticks(),
        progress=lambda stage, done, total, left: heard.append((stage, done)),
    )
    assert result.loss_after < 0.5 * result.loss_before
    assert (result.examples, result.set_aside, result.rank) == (16, 2, 4)
    assert 0 < result.divergence < result.loss_before - result.loss_after
    assert list(dict.fromkeys(stage for stage, _ in heard)) == ["reading", "training"]
    assert heard[-1] == ("training", 100)
    engine = leanto_edge.load(base.path, adapter=tmp_path / "a")
    assert engine.info.adapter == result.adapter


def test_the_same_seed_and_the_same_clock_give_the_same_adapter(base: Artifact, examples: Path, tmp_path: Path) -> None:
    made = [adapt(base.path, tmp_path / str(i), data=examples, minutes=1, seed=seed, clock=Ticks()) for i, seed in enumerate((3, 3, 4))]
    assert made[0].adapter == made[1].adapter != made[2].adapter


def test_an_adaptation_that_finds_nothing_better_changes_nothing(base: Artifact, examples: Path, tmp_path: Path) -> None:
    result = adapt(base.path, tmp_path / "a", data=examples, minutes=1, keeping=1e6, clock=Ticks())
    assert result.loss_after == result.loss_before
    before, after = (leanto_edge.load(base.path, adapter=file).logits(IDS) for file in (None, tmp_path / "a"))
    assert np.sqrt(np.mean(np.square(after - before))) <= ROUNDING * np.sqrt(np.mean(np.square(before)))


def test_own_text_comes_again_with_its_seed(base: Artifact) -> None:
    engine = leanto_edge.load(base.path)
    first, again, other = (own_text(engine, [], seed, 300, lambda share: False) for seed in (0, 0, 1))
    assert first == again != other
    assert sum(len(text.ids) for text in first) >= 200


def test_own_text_of_a_model_that_makes_calls_is_judged_by_its_calls() -> None:
    engine = leanto_edge.load(leanto_edge.embedded())
    form = engine.call_form
    assert form is not None
    texts = [text for text in own_text(engine, [], 0, 2000, lambda share: False) if text.ids[1] == form.user]
    assert len(texts) > 20
    assert all(text.ids[text.start - 1] == form.call for text in texts)


def test_own_text_lies_near_the_examples() -> None:
    engine = leanto_edge.load(leanto_edge.embedded())
    assert engine.call_form is not None
    prompt = tuple(engine.call_form.prompt("xylophone lessons for seven zebras"))
    near, far = (own_text(engine, prompts, 0, 4000, lambda share: False) for prompts in ([prompt], []))
    share = [np.mean([text.ids[2] == prompt[2] for text in texts]) for texts in (near, far)]
    assert share[0] > 0.3 > 0.05 > share[1]


def test_the_base_taking_things_as_out_of_scope_is_half_of_what_is_kept() -> None:
    engine = leanto_edge.load(leanto_edge.embedded())
    form = engine.call_form
    assert form is not None
    outside = Example((form.bos, form.user, form.call, form.intents["none"], form.eos), 3)
    inside = Example((form.bos, form.user, form.call, form.intents["alarm_set"], form.eos), 3)
    assert evened([outside, *[inside] * 9], form).count(outside) == 9
    assert evened([inside] * 3, form) == evened([inside] * 3, None) == [inside] * 3


def read(path: Path, base: Artifact) -> Any:
    return read_examples(path, leanto_edge.load(base.path), base.path)


def test_a_completion_alone_is_predicted_up_to_the_end(base: Artifact, examples: Path) -> None:
    tokenizer = leanto_edge.load(base.path).tokenizer
    first = read(examples, base).examples[0]
    assert tokenizer.decode(first.ids[first.start :]) == " hello"
    assert first.ids[-1] == CONFIG["eos_token_id"]
    assert list(first.ids[: first.start]) == tokenizer.encode("say a")


def test_long_text_is_several_examples(base: Artifact, tmp_path: Path) -> None:
    path = write(tmp_path / "x.jsonl", [{"text": "ab" * 20}] * 9)
    assert {len(example.ids) for example in read(path, base).examples} == {42}


def test_calls_are_read_as_the_model_makes_them(tmp_path: Path) -> None:
    base = read_artifact(leanto_edge.embedded())
    rows: list[Any] = [{"prompt": "wake me at six", "completion": '{"intent": "alarm_set", "slots": {"time": "six"}}'}] * 4
    rows += [{"prompt": "a large coffee at six", "completion": {"intent": "order_coffee", "slots": {"time": "six"}}}] * 4
    found = read(write(tmp_path / "x.jsonl", rows), base)
    form = leanto_edge.load(base.path).call_form
    assert form is not None
    assert found.calls.intents == {"order_coffee": ("time",)}
    token = found.calls.tokens["order_coffee"]
    assert str(form.tokenizer.id_to_token(token)).strip("Ġ") in "order coffee"
    assert found.examples[0].ids[found.examples[0].start] == form.intents["alarm_set"]
    assert found.examples[4].ids[found.examples[4].start] == token


def test_new_intents_get_pieces_of_their_own(tmp_path: Path) -> None:
    base = read_artifact(leanto_edge.embedded())
    rows = [{"prompt": "x", "completion": {"intent": name, "slots": {}}} for name in ("a_b", "b_a", "a", "b", "A B", "b a", "ab", "?")]
    tokens = read(write(tmp_path / "x.jsonl", rows), base).calls.tokens
    assert len(set(tokens.values())) == len(tokens) == 8


GOOD = {"text": "abc"}
CALL = {"prompt": "wake me at six", "completion": {"intent": "alarm_set", "slots": {"time": "six"}}}


@pytest.mark.parametrize(
    ("rows", "says"),
    [
        ([GOOD, 7], "line 2 is not a JSON object"),
        ([GOOD, {"prompt": "a"}], "line 2 is none of the known forms"),
        ([GOOD, {"prompt": " ", "completion": "x"}], "line 2 has an empty prompt"),
        ([GOOD, {"prompt": "a", "completion": ""}], "line 2 has a completion"),
        ([GOOD, {"prompt": "a", "completion": {"intent": "x"}}], "line 2 has a completion"),
        ([GOOD, {"prompt": "a" * 70, "completion": "x"}], "line 2 has 73 tokens, the model reads 64"),
        ([GOOD, {"messages": [{"role": "user", "content": "x"}]}], "line 2 has messages that do not end"),
        ([GOOD, {"messages": "x"}], "line 2 is none of the known forms"),
        ([GOOD, {"text": "\ud800"}], "line 2 is not valid UTF-8"),
        ([GOOD] * 3, "holds 3 examples"),
    ],
)
def test_examples_that_cannot_be_learnt_are_named(base: Artifact, tmp_path: Path, rows: list[Any], says: str) -> None:
    with pytest.raises(ArtifactError, match=says) as caught:
        read(write(tmp_path / "x.jsonl", rows), base)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("completion", "says"),
    [
        ({"intent": "x", "slots": {"nowhere": "six"}}, "line 2 has a slot 'nowhere'"),
        ({"intent": "alarm_set", "slots": {"time": "seven"}}, "line 2 has a slot value that is not in the prompt"),
        ({"intent": "a\nb", "slots": {}}, "line 2 has an intent that is not"),
        ({"intent": "x" * 200, "slots": {}}, "line 2 has an intent that is not"),
        ({"intent": "x", "slots": {"time": 7}}, "line 2 has a completion"),
    ],
)
def test_calls_that_cannot_be_learnt_are_named(tmp_path: Path, completion: Any, says: str) -> None:
    base = read_artifact(leanto_edge.embedded())
    with pytest.raises(ArtifactError, match=says):
        read(write(tmp_path / "x.jsonl", [CALL, {"prompt": "wake me at six", "completion": completion}, *[CALL] * 7]), base)


@pytest.mark.parametrize(("content", "says"), [(b"\xff\n", "not UTF-8"), (b"{\n", "line 1 is not"), (b"", "holds 0 examples")])
def test_a_file_that_is_no_list_of_examples_is_refused(base: Artifact, tmp_path: Path, content: bytes, says: str) -> None:
    (tmp_path / "x").write_bytes(content)
    with pytest.raises(ArtifactError, match=says):
        read(tmp_path / "x", base)


def test_a_missing_file_is_refused(base: Artifact, tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match="cannot be read"):
        read(tmp_path / "nowhere", base)


@pytest.mark.parametrize("wrong", [{"minutes": 0}, {"minutes": float("nan")}, {"rank": 0}])
def test_options_that_make_no_sense_are_refused(base: Artifact, examples: Path, tmp_path: Path, wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="must be"):
        adapt(base.path, tmp_path / "a", **{"data": examples, "minutes": 1, **wrong})


def test_an_existing_output_is_refused_before_any_work(base: Artifact, examples: Path) -> None:
    def clock() -> float:
        raise AssertionError("work began")

    with pytest.raises(AdapterError, match="already exists"):
        adapt(base.path, examples, data=examples, minutes=1, clock=clock)


CHAT = "{% for m in messages %}<{{ m.role }}>{{ m.content }}</s>{% endfor %}{% if add_generation_prompt %}<assistant>{% endif %}"


def test_a_conversation_is_read_in_the_models_own_template(tmp_path: Path) -> None:
    specs = {name: MatrixSpec("dense", 32, *size) for name, size in matrix_sizes(tiny_shape()).items()}
    tensors = {
        name: np.zeros(spec.shape, np.float32) if len(spec.shape) == 2 else np.ones(spec.shape, np.float32)
        for name, spec in expected_tensors(tiny_shape(), specs).items()
    }
    settings = {"tokenizer_class": "PreTrainedTokenizerFast", "chat_template": CHAT, "eos_token": "</s>", "bos_token": "<s>"}
    files = {"tokenizer.json": byte_tokenizer(), "tokenizer_config.json": json.dumps(settings).encode()}
    base = write_artifact(tmp_path / "chat", CONFIG, specs, tensors, files, {})
    messages = [{"role": "user", "content": "hi"}, {"role": "assistant", "content": "yo"}]
    found = read(write(tmp_path / "x.jsonl", [{"messages": messages}] * 8), base).examples[0]
    tokenizer = leanto_edge.load(base.path).tokenizer
    assert tokenizer.decode(found.ids[: found.start]) == "<user>hi<assistant>"
    assert tokenizer.decode(found.ids[found.start :]) == "yo"
    assert found.ids[-1] == 1


def test_a_conversation_needs_a_template(base: Artifact, tmp_path: Path) -> None:
    messages = [{"role": "user", "content": "hi"}, {"role": "assistant", "content": "yo"}]
    with pytest.raises(ArtifactError, match="line 1 is a conversation, but the model"):
        read(write(tmp_path / "x.jsonl", [{"messages": messages}] * 8), base)
