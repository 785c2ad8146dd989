from __future__ import annotations

import copy
import math
from pathlib import Path

import pytest
import torch

from leanto_edge.compress.report import measure_quality
from leanto_edge.compress.source import load_source

DOCUMENTS = [(0, 5, 6, 7), (0, 9, 10), (0, 11, 12, 13, 14, 15)]


def test_a_model_does_not_diverge_from_itself(teacher: Path) -> None:
    model = load_source(teacher).model
    heard: list[int] = []
    quality = measure_quality(model, model, DOCUMENTS, heard.append)
    assert quality.tokens == 10
    assert quality.kl_mean == pytest.approx(0, abs=1e-6)
    assert quality.perplexity_after == quality.perplexity_before
    assert quality.top1_agreement == 1
    assert quality.fit
    assert quality.perplexity_interval[0] < quality.perplexity_after < quality.perplexity_interval[1]
    assert heard[-1] == len(DOCUMENTS)


def test_perplexity_is_that_of_each_document_alone(teacher: Path) -> None:
    model = load_source(teacher).model
    losses = [model(torch.tensor([d]), labels=torch.tensor([d])).loss.item() * (len(d) - 1) for d in DOCUMENTS]
    expected = torch.tensor(sum(losses) / 10).exp().item()
    assert measure_quality(model, model, DOCUMENTS, lambda _: None).perplexity_before == pytest.approx(expected, rel=1e-4)


def test_a_broken_student_is_seen(teacher: Path) -> None:
    model = load_source(teacher).model
    broken = copy.deepcopy(model)
    broken.model.norm.weight.mul_(1000)
    quality = measure_quality(model, broken, DOCUMENTS, lambda _: None)
    assert quality.kl_mean > 1
    assert not quality.fit
    assert quality.perplexity_after > 10 * quality.perplexity_before


def test_a_student_that_gives_no_numbers_is_unfit_and_still_reported(teacher: Path) -> None:
    model = load_source(teacher).model
    broken = copy.deepcopy(model)
    broken.model.norm.weight.mul_(float("nan"))
    quality = measure_quality(model, broken, DOCUMENTS)
    assert not quality.fit
    assert all(math.isfinite(value) for value in (quality.kl_mean, quality.perplexity_after, *quality.perplexity_interval))
