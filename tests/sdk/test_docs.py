from __future__ import annotations

import re
import tomllib
from dataclasses import fields
from pathlib import Path

import pytest

from leanto import parse_policy
from leanto.policy.explain import _MARK
from leanto.policy.rules import FUNCTIONS, VARIABLES
from leanto.policy.schema import Budgets, CloudTarget, ConfidenceThreshold, Handoff, Offline, Privacy, Quality
from leanto.signals import simulate

ROOT = Path(__file__).resolve().parents[2]
DOCS = ROOT / "docs"


@pytest.fixture(scope="module")
def policy_page() -> str:
    return (DOCS / "policy.md").read_text()


@pytest.mark.parametrize("table", [CloudTarget, Privacy, Budgets, ConfidenceThreshold, Quality, Handoff, Offline])
def test_every_name_of_the_policy_is_described_as_the_code_has_it(table: type, policy_page: str) -> None:
    for option in fields(table):
        if "doc" in option.metadata:
            row = re.search(rf"^\| `{option.name}` \| (.+?) \| (.+?) \|$", policy_page, re.MULTILINE)
            assert row is not None, option.name
            assert row[2] == option.metadata["doc"]
            shown = row[1].strip("`")
            assert shown == "required" or shown == "none" or option.metadata["read"](tomllib.loads(f"x = {shown}")["x"]) == option.default


def test_the_example_policy_is_one(policy_page: str) -> None:
    example = re.search(r"```toml\n(.*?)```", policy_page, re.DOTALL)
    assert example is not None
    assert parse_policy(example[1]).privacy.classes["work"] == ("local",)


def test_every_verdict_and_every_label_in_the_code_is_explained(policy_page: str) -> None:
    source = "\n".join((ROOT / "sdk/leanto" / name).read_text() for name in ("policy/decide.py", "cascade.py"))
    labels = set(re.findall(r'"([a-z]+-[a-z-]+|private|battery|temperature|load|offline|confident|uncalibrated)"', source))
    for word in labels | {mark.lower() for mark in _MARK.values()}:
        assert re.search(rf"(?<![\w-]){word}(?![\w-])", policy_page), word


def test_every_variable_and_function_of_a_condition_is_listed(policy_page: str) -> None:
    for name in (*VARIABLES, *FUNCTIONS):
        assert f"`{name}`" in policy_page


def test_the_example_rules_are_some(policy_page: str) -> None:
    example = re.search(r"```toml\n(\[\[rules.*?)```", policy_page, re.DOTALL)
    assert example is not None
    assert len(parse_policy("version = 1\n" + example[1]).rules) == 2


def test_the_rehearsal_names_are_listed(policy_page: str) -> None:
    with pytest.raises(Exception, match=r"one of: (.*)") as caught:
        simulate("x=1")
    for name in str(caught.value).split("one of: ")[1].split(", "):
        assert f"`{name}`" in policy_page


def test_every_file_named_in_the_lifecycle_exists() -> None:
    page = (DOCS / "lifecycle.md").read_text()
    named = re.findall(r"`([\w/.]+\.py|kernels/)`", page)
    assert len(named) > 15
    folders = [ROOT, ROOT / "sdk/leanto", ROOT / "cloud_server/leanto_cloud"]
    missing = [name for name in named if not any((folder / name).exists() for folder in folders)]
    assert missing == []
