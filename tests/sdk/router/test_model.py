from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors import safe_open
from safetensors.numpy import save_file

from leanto import ModelError, OutputError
from leanto.router import Outcome, Router, train

WORDS = ("tea", "rain", "seven", "blue", "lamp", "river", "soft", "door")


def outcomes(n: int = 240, seed: int = 0) -> list[Outcome]:
    """The cloud is the better one where a prompt says "prove", and in a twelfth of the rest."""
    random = np.random.default_rng(seed)
    found = []
    for i in range(n):
        hard, words = random.random() < 0.4, " ".join(random.choice(WORDS, 6))
        gain = float(hard or random.random() < 0.08)
        found.append(Outcome(f"{'prove that' if hard else 'tell me of'} {words} {i}", gain, f"group {i % 8}"))
    return found


ROUTER = train(outcomes())
HARD, EASY = (f"{start} blue lamp tea river soft rain 300" for start in ("prove that", "tell me of"))


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    path = tmp_path_factory.mktemp("saved") / "router"
    ROUTER.save(path)
    return path.read_bytes()


@pytest.fixture
def path(tmp_path: Path, saved: bytes) -> Path:
    (tmp_path / "router").write_bytes(saved)
    return tmp_path / "router"


def rewritten(path: Path, **changes: object) -> Path:
    """The file with another description, or with other tensors."""
    with safe_open(path, framework="np") as file:
        about = json.loads(file.metadata()["leanto_router"])
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a mapping
    tensors |= {name: value for name, value in changes.items() if isinstance(value, np.ndarray)}
    about |= {name: value for name, value in changes.items() if not isinstance(value, np.ndarray)}
    save_file(tensors, path, {"leanto_router": json.dumps(about)})
    return path


def test_a_prompt_that_needs_the_cloud_scores_low() -> None:
    assert ROUTER.score(HARD) < 0.3 < 0.8 < ROUTER.score(EASY)


def test_the_gain_is_foreseen_in_the_units_of_the_outcomes() -> None:
    assert ROUTER.gain(HARD) == pytest.approx(1.0, abs=0.2)
    assert ROUTER.gain(EASY) == pytest.approx(0.08, abs=0.2)


@given(st.text())
def test_a_score_is_a_probability_for_any_text_and_always_the_same(text: str) -> None:
    assert 0.0 <= ROUTER.score(text) <= 1.0
    assert ROUTER.score(text) == ROUTER.score(text)


def test_a_router_survives_its_file(path: Path) -> None:
    loaded = Router.load(path)
    assert loaded.report == ROUTER.report
    for outcome in outcomes(20, seed=1):
        assert loaded.score(outcome.prompt) == ROUTER.score(outcome.prompt)


def test_no_word_of_the_training_prompts_is_in_the_file(path: Path) -> None:
    assert not [word for word in WORDS if word.encode() in path.read_bytes()]


@pytest.mark.parametrize("kept", [0, 7, 8, 100, 1000, 5000, 300_000])
def test_a_truncated_file_is_refused(path: Path, kept: int) -> None:
    path.write_bytes(path.read_bytes()[:kept])
    with pytest.raises(ModelError, match="not a router, or damaged") as caught:
        Router.load(path)
    assert caught.value.path == str(path)


@settings(max_examples=200, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_a_changed_byte_is_refused_or_leaves_a_router_that_works(path: Path, saved: bytes, data: st.DataObject) -> None:
    whole = bytearray(saved)
    header = 8 + int.from_bytes(whole[:8], "little")
    place = data.draw(st.integers(0, header + 800))  # the header, and the vectors of structure
    whole[place] = data.draw(st.integers(0, 255))
    path.write_bytes(whole)
    try:
        router = Router.load(path)
    except ModelError:
        return
    assert 0.0 <= router.score("prove that a = b") <= 1.0


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"version": 2}, "other features"),
        ({"structure": ["length"]}, "train it again"),
        ({"slope": 0.5}, "slope is 0.5"),
        ({"bias": "0"}, "bias is '0'"),
        ({"intercept": float("nan")}, "intercept is nan"),
        ({"report": 3}, "not a router"),
        ({"term_idf": np.zeros(8, np.float32)}, "term_idf is float32"),
        ({"term_weight": np.full(1 << 16, np.nan, np.float32)}, "out of range"),
        ({"structure_scale": np.zeros(58, np.float32)}, "out of range"),
        ({"structure_mean": np.zeros(58, np.float64)}, "float64"),
        ({"tree_feature": np.full((100, 4), 58, np.int32)}, "tree_feature holds values out of range"),
        ({"tree_feature": np.full((100, 4), -1, np.int32)}, "tree_feature holds values out of range"),
        ({"tree_value": np.full((100, 16), np.inf, np.float32)}, "tree_value holds values out of range"),
    ],
)
def test_a_file_that_says_what_no_router_can_is_refused(path: Path, changes: dict[str, object], says: str) -> None:
    with pytest.raises(ModelError, match=says):
        Router.load(rewritten(path, **changes))


def test_a_file_that_is_no_router_or_nowhere_is_refused(tmp_path: Path) -> None:
    save_file({"x": np.zeros(3)}, tmp_path / "other")
    for name, says in (("other", "not a router"), ("absent", "cannot be read"), (".", "cannot be read")):
        with pytest.raises(ModelError, match=says):
            Router.load(tmp_path / name)


def test_a_router_that_cannot_be_written_is_an_output_error(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="cannot be written"):
        ROUTER.save(tmp_path / "absent" / "router")
