from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from leanto_edge.compress.ldlq import best_scales, ldlq, sweep, unit_lower
from leanto_edge.compress.rounding import Int8Rounder, Rounder, TrellisRounder, int8_scales, stored_scales, trellis_scales
from leanto_kernels import reference, tables

Floats = NDArray[np.float32]


def problem(rows: int = 40, columns: int = 96) -> tuple[Floats, NDArray[np.float64]]:
    """Columns (n, m) of a normal matrix and a Hessian with a decaying spectrum."""
    random = np.random.default_rng(0)
    basis = np.linalg.qr(random.standard_normal((columns, columns)))[0]
    h = (basis * np.exp(-np.arange(columns) / 12)) @ basis.T + 1e-3 * np.eye(columns)
    return random.standard_normal((columns, rows)).astype(np.float32), h


def energy(error: Floats, h: NDArray[np.float64]) -> float:
    return float(np.einsum("jm,jk,km->", error, h, error))


def rounder_of(columns: Floats, bits: int) -> Rounder:
    return (
        Int8Rounder(int8_scales(columns.T))
        if bits == 8
        else TrellisRounder(trellis_scales(columns.T, bits), bits, np.ones(columns.shape[1], np.float32))
    )


def test_blocked_feedback_is_the_textbook_recursion() -> None:
    columns, h = problem()
    rounder, lower = rounder_of(columns, 8), unit_lower(h)
    rounded = ldlq(columns, lower, rounder)
    error = np.zeros_like(columns, dtype=np.float64)
    for j in reversed(range(len(columns))):
        target = columns[j] + error[j + 1 :].T @ lower[j + 1 :, j]
        values = rounder.round(target.astype(np.float32))[1]
        error[j] = columns[j] - values * rounder.scales
    agree = np.mean(rounded.values == np.rint((columns - error) / rounder.scales))
    assert agree > 0.995  # the products are summed in another order: a tie may fall the other way


@pytest.mark.parametrize("bits", [2, 3, 4, 8])
def test_feedback_beats_rounding_each_column_alone(bits: int) -> None:
    columns, h = problem()
    rounder = rounder_of(columns, bits)
    alone = np.stack([rounder.round(column)[1] * rounder.scales for column in columns])
    together = ldlq(columns, unit_lower(h), rounder).values * rounder.scales
    assert energy(columns - together, h) < 0.8 * energy(columns - alone, h)


@pytest.mark.parametrize("bits", [2, 4])
def test_a_sweep_never_makes_the_error_larger(bits: int) -> None:
    columns, h = problem()
    rounder = rounder_of(columns, bits)
    rounded = ldlq(columns, unit_lower(h), rounder)
    before = energy(columns - rounded.values * rounder.scales, h)
    for _ in range(3):
        sweep(columns, h.astype(np.float32), rounded, rounder)
        after = energy(columns - rounded.values * rounder.scales, h)
        assert after <= before * (1 + 1e-5)
        before = after


def test_codes_follow_the_values_through_a_sweep() -> None:
    columns, h = problem()
    rounder = rounder_of(columns, 2)
    rounded = ldlq(columns, unit_lower(h), rounder)
    sweep(columns, h.astype(np.float32), rounded, rounder)
    decoded = reference.decode_trellis(np.ascontiguousarray(rounded.codes.T), tables(2), 2, 40)
    np.testing.assert_array_equal(decoded.T, rounded.values)


def test_no_other_scale_has_a_smaller_error() -> None:
    columns, h = problem()
    rounder = rounder_of(columns, 2)
    values = ldlq(columns, unit_lower(h), rounder).values
    best = best_scales(columns, h.astype(np.float32), values)
    least = energy((columns - values * best).astype(np.float32), h)
    for factor in (0.97, 1.03):
        assert energy((columns - values * best * factor).astype(np.float32), h) > least


def test_a_zero_row_stays_zero() -> None:
    columns, h = problem()
    columns[:, 3] = 0
    rounder = rounder_of(columns, 4)
    assert rounder.scales[3] == 0
    values = ldlq(columns, unit_lower(h), rounder).values
    assert best_scales(columns, h.astype(np.float32), values)[3] == 0


def test_int8_scales_are_no_worse_than_the_largest_value() -> None:
    w = np.random.default_rng(1).standard_t(3, (20, 200)).astype(np.float32)

    def error(scales: Floats) -> Floats:
        rounded = np.clip(np.rint(w / scales[:, None]), -127, 127) * scales[:, None]
        return np.asarray(np.square(w - rounded).sum(1))

    assert (error(int8_scales(w)) <= 1.0001 * error(stored_scales(np.abs(w).max(1) / 127))).all()
