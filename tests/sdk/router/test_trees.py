from __future__ import annotations

import numpy as np
import pytest

from leanto.router.trees import DEPTH, TREES, boost


def table(n: int = 2000) -> np.ndarray:
    return np.random.default_rng(0).normal(size=(n, 6)).astype(np.float32)


def predicted(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    trees = boost(x, y)
    return np.array([trees.predict(row) for row in x])


def test_what_depends_on_two_features_at_once_is_learnt() -> None:
    x = table()
    y = ((x[:, 0] > 0) & (x[:, 3] > 0)).astype(np.float64)
    assert np.mean((predicted(x, y) - y) ** 2) < 0.1 * y.var()


def test_the_mean_is_kept() -> None:
    x = table()
    y = 5.0 + x[:, 1].astype(np.float64)
    assert predicted(x, y).mean() == pytest.approx(y.mean(), abs=1e-2)


def test_features_that_never_change_teach_the_mean() -> None:
    np.testing.assert_allclose(predicted(np.ones((80, 3), np.float32), np.arange(80.0)), 39.5, rtol=1e-5)


def test_a_prediction_is_the_sum_of_one_leaf_of_each_tree() -> None:
    x = table(300)
    trees = boost(x, x[:, 2].astype(np.float64))
    leaves = [sum(2**d * bool(x[7, trees.feature[t, d]] > trees.threshold[t, d]) for d in range(DEPTH)) for t in range(TREES)]
    assert trees.predict(x[7]) == pytest.approx(sum(float(trees.value[t, leaf]) for t, leaf in enumerate(leaves)), abs=1e-5)


def test_boosting_twice_gives_the_same_trees() -> None:
    x = table(200)
    first, second = (boost(x, x[:, 0].astype(np.float64)) for _ in range(2))
    np.testing.assert_array_equal(first.threshold, second.threshold)
    np.testing.assert_array_equal(first.value, second.value)
