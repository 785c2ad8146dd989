from __future__ import annotations

import itertools

from leanto_edge.artifact.layout import EMBEDDING, HEAD, MatrixSpec
from leanto_edge.compress.settings import Settings


def test_every_width_is_a_candidate_and_the_first_has_no_low_rank() -> None:
    found = Settings(bits=2).candidate_specs("model.layers.0.mlp.up_proj", 512, 256, "model.layers.0.mlp.gate_proj")
    assert found[0].rank == 0
    assert {spec.bits for spec in found if spec.rank == 0} == {1, 2, 3, 4, 8}
    assert {(spec.rank, spec.factor_bits) for spec in found if spec.rank} == {(8, 8), (16, 4), (32, 4)}


def test_small_matrices_and_tables_have_no_low_rank_candidates() -> None:
    settings = Settings(bits=2)
    assert all(spec.rank == 0 for spec in settings.candidate_specs("model.layers.0.self_attn.k_proj", 32, 256, "x"))
    for table in (EMBEDDING, HEAD):
        assert all(spec.rank == spec.out_seed == 0 for spec in settings.candidate_specs(table, 4096, 256, table))


def test_candidates_of_one_input_share_their_rotation_and_matrices_differ_in_that_of_their_outputs() -> None:
    settings = Settings(bits=2, seed=3)
    both = [settings.candidate_specs(f"model.layers.0.mlp.{name}_proj", 512, 256, "shared") for name in ("gate", "up")]
    assert len({spec.in_seed for spec in itertools.chain(*both)}) == 1
    assert both[0][0].out_seed != both[1][0].out_seed


def test_the_profile_names_the_codes() -> None:
    for profile, kind in (("best", "trellis"), ("fast", "additive"), ("plain", "scalar")):
        settings = Settings(bits=2, profile=profile, uniform=True)  # type: ignore[arg-type]
        assert settings.uniform_spec("model.layers.0.mlp.up_proj", 64, 64, "x").kind == kind


def test_other_methods_are_stored_dense_with_our_tables() -> None:
    settings = Settings(bits=2.25, uniform=True, method="caldera")
    assert settings.uniform_spec("model.layers.0.mlp.up_proj", 64, 32, "x") == MatrixSpec("dense", 32, 64, 32)
    assert settings.uniform_spec(EMBEDDING, 64, 32, EMBEDDING).kind == "trellis"
