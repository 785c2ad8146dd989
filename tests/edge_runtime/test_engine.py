"""The engine against a real model nobody here trained, and what it refuses."""

from __future__ import annotations

import json
import math
import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

import leanto_edge
from artifacts import dense_weights, write_plain, write_tiny
from leanto_edge import ArtifactError, Engine, GenerationRequest, PromptError, SamplingParams, UnsupportedModelError
from leanto_edge.artifact import annotate_artifact

LOGIT_BOUND = 1e-3  # against transformers in float32
PERPLEXITY_BOUND = 0.01  # against golden.json


@pytest.fixture(scope="module")
def engine(stories260k: Path) -> Engine:
    return leanto_edge.load(stories260k)


@pytest.fixture(scope="module")
def golden(stories260k: Path) -> dict[str, object]:
    return dict(json.loads((stories260k / "golden.json").read_text()))


def greedy(prompt: str, tokens: int, **more: object) -> GenerationRequest:
    return GenerationRequest(prompt, sampling=SamplingParams(max_tokens=tokens, **more))  # type: ignore[arg-type]


def test_greedy_text_is_the_golden_text(engine: Engine, golden: dict[str, object]) -> None:
    completion = engine.complete(greedy("Once upon a time", 100))
    prompt = engine.tokenizer.encode("Once upon a time")
    assert prompt + [token.id for token in completion.tokens] == golden["greedy_ids"]
    assert f"<s> Once upon a time{completion.text}" == golden["greedy_text"]


def test_logits_are_those_of_transformers(engine: Engine, stories260k: Path) -> None:
    torch = pytest.importorskip("torch")
    transformers = pytest.importorskip("transformers")
    model = transformers.AutoModelForCausalLM.from_pretrained(stories260k, dtype=torch.float32).eval()
    ids = engine.tokenizer.encode("One day, a girl named Lily found a needle in her room. She knew it was difficult to play with it.")
    with torch.no_grad():
        expected = model(torch.tensor([ids])).logits[0].numpy()
    assert np.abs(leanto_edge.load(stories260k, kv_cache="float32").logits(ids) - expected).max() <= LOGIT_BOUND


def test_perplexity_is_the_golden_perplexity(engine: Engine, golden: dict[str, float], data_dir: Path) -> None:
    nll, count = 0.0, 0
    for story in (data_dir / "text" / "tinystories" / "valid.txt").read_text().split("\n<|endoftext|>\n"):
        ids = engine.tokenizer.encode(story.strip())[:512]
        if len(ids) < 8:
            continue
        logits = engine.logits(ids)[:-1].astype(np.float64)
        logits -= logits.max(axis=1, keepdims=True)
        logprobs = logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))
        nll -= logprobs[np.arange(len(ids) - 1), ids[1:]].sum()
        count += len(ids) - 1
        if count >= 20_000:
            break
    assert count == golden["predictions"]
    assert math.exp(nll / count) == pytest.approx(golden["perplexity"], abs=PERPLEXITY_BOUND)


def test_streamed_tokens_are_the_completion(engine: Engine) -> None:
    request = greedy("The dog", 30)
    assert "".join(token.text for token in engine.generate(request)) == engine.complete(request).text


def test_a_prefix_continues_the_same_answer(engine: Engine) -> None:
    whole = engine.complete(greedy("Once upon a time", 40))
    cut = "".join(token.text for token in whole.tokens[:17])
    rest = engine.complete(GenerationRequest("Once upon a time", prefix=cut, sampling=SamplingParams(max_tokens=23)))
    assert cut + rest.text == whole.text


def test_evidence_agrees_with_the_logits(engine: Engine) -> None:
    completion = engine.complete(greedy("Lily and Tom", 12))
    ids = engine.tokenizer.encode("Lily and Tom")
    for token in completion.tokens:
        row = engine.logits(ids)[-1].astype(np.float64)
        logprobs = row - row.max() - np.log(np.exp(row - row.max()).sum())
        others = np.delete(logprobs, token.id)
        assert token.logprob == pytest.approx(logprobs[token.id], abs=1e-4)
        assert token.margin == pytest.approx(logprobs[token.id] - others.max(), abs=1e-3)
        assert token.entropy == pytest.approx(-(np.exp(logprobs) * logprobs).sum(), abs=1e-3)
        ids.append(token.id)


def test_a_seed_repeats_and_another_seed_does_not(engine: Engine) -> None:
    texts = [engine.complete(greedy("The", 40, temperature=1.0, seed=seed)).text for seed in (7, 7, 8)]
    assert texts[0] == texts[1] != texts[2]


def test_a_stop_text_ends_the_answer_unshown(engine: Engine) -> None:
    completion = engine.complete(greedy("Once upon a time", 100, stop=("Lily",)))
    assert completion.finish_reason == "stop"
    assert completion.text == ", there was a little girl named "


def test_many_generations_at_once_do_not_mix(engine: Engine) -> None:
    prompts = ["Once upon a time", "The dog", "Lily and Tom", "One day"] * 3
    alone = [engine.complete(greedy(prompt, 25)).text for prompt in prompts]
    with ThreadPoolExecutor(6) as pool:
        assert list(pool.map(lambda prompt: engine.complete(greedy(prompt, 25)).text, prompts)) == alone


def test_a_generation_ends_where_the_context_ends(engine: Engine) -> None:
    prompt = "the cat sat on the mat and " * 40
    completion = engine.complete(greedy(prompt, 10_000, temperature=1.0, seed=1))
    used = len(engine.tokenizer.encode(prompt)) + len(completion.tokens)
    assert completion.finish_reason == "stop" or used == engine.info.context_length


@pytest.mark.parametrize(
    ("prompt", "says"),
    [("", "empty"), (" \n", "empty"), ("x" * 100_000, "shorten"), ("the cat " * 1000, "shorten"), ("\udcff", "UTF-8")],
)
def test_prompts_that_cannot_run_are_refused_before_any_work(engine: Engine, prompt: str, says: str) -> None:
    with pytest.raises(PromptError, match=says) as caught:
        engine.generate(greedy(prompt, 5))
    assert "\n" not in str(caught.value)


def test_a_model_without_a_schema_makes_no_calls(engine: Engine) -> None:
    assert engine.info.tasks == ("text",)
    with pytest.raises(PromptError, match="no call schema"):
        engine.generate(GenerationRequest("wake me at six", task="call"))


@pytest.mark.parametrize(
    ("key", "value", "kind"),
    [
        ("model_type", "mamba", UnsupportedModelError),
        ("hidden_act", "gelu", UnsupportedModelError),
        ("rope_parameters", {"rope_type": "yarn"}, UnsupportedModelError),
        ("rope_parameters", {"type": "dynamic", "factor": 2.0}, UnsupportedModelError),
        ("rope_parameters", {"type": "linear", "factor": 0}, ArtifactError),
        ("rope_parameters", ["yarn"], UnsupportedModelError),
        ("model_type", "x" * 10_000, UnsupportedModelError),
        ("hidden_size", 1 << 40, ArtifactError),
        ("hidden_size", math.inf, ArtifactError),
        ("rms_norm_eps", 10**400, ArtifactError),
        ("num_hidden_layers", 1 << 24, ArtifactError),
        ("bos_token_id", 512, ArtifactError),
        ("num_key_value_heads", 3, ArtifactError),
        ("vocab_size", None, ArtifactError),
        ("num_hidden_layers", 6, ArtifactError),
        ("head_dim", 16, ArtifactError),
    ],
)
def test_a_config_that_does_not_fit_is_refused(
    stories260k: Path, tmp_path: Path, key: str, value: object, kind: type[ArtifactError]
) -> None:
    folder = tmp_path / "model"
    shutil.copytree(stories260k, folder)
    config = json.loads((folder / "config.json").read_text())
    config[key] = value
    (folder / "config.json").chmod(0o644)
    (folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(kind) as caught:
        leanto_edge.load(folder)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 600


def test_a_tokenizer_with_ids_beyond_the_vocabulary_is_refused(stories260k: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(stories260k, tmp_path / "model"))
    tokenizer = json.loads((folder / "tokenizer.json").read_text())
    vocabulary = tokenizer["model"]["vocab"]
    vocabulary[list(vocabulary)[-1]] = 100_000
    (folder / "tokenizer.json").chmod(0o644)
    (folder / "tokenizer.json").write_text(json.dumps(tokenizer))
    with pytest.raises(ArtifactError, match="do not belong together"):
        leanto_edge.load(folder)


def test_a_prefix_that_is_not_text_is_refused(engine: Engine) -> None:
    with pytest.raises(PromptError, match="UTF-8"):
        engine.generate(GenerationRequest("the cat", prefix="\udcff"))


def test_damaged_weights_are_named_when_they_show(tmp_path: Path) -> None:
    weights = dense_weights()
    weights["model.layers.0.mlp.up_proj.weight"][:] = np.nan
    path = write_plain(tmp_path / "plain")
    save_file(weights, path / "model.safetensors")
    engine = leanto_edge.load(path)
    with pytest.raises(ArtifactError, match=r"not finite.*fetch the artifact again"):
        engine.complete(greedy("the cat", 3))


def test_a_norm_that_is_not_finite_is_refused_at_once(tmp_path: Path) -> None:
    weights = dense_weights()
    weights["model.norm.weight"][5] = np.inf
    path = write_plain(tmp_path / "plain")
    save_file(weights, path / "model.safetensors")
    with pytest.raises(ArtifactError, match=r"in model\.norm\.weight that is not finite"):
        leanto_edge.load(path)


def test_a_schema_that_the_manifest_does_not_list_is_not_used(tmp_path: Path) -> None:
    path = write_tiny(tmp_path / "tiny").path
    (path / "calls.json").write_text("no schema at all")
    assert leanto_edge.load(path).info.tasks == ("text",)


def test_a_model_marked_unfit_says_so(tmp_path: Path) -> None:
    path = write_tiny(tmp_path / "tiny").path
    assert leanto_edge.load(path).info.fit
    annotate_artifact(path, quality={"fit": False})
    assert not leanto_edge.load(path).info.fit
