from __future__ import annotations

import re
import tomllib
from dataclasses import fields, is_dataclass
from pathlib import Path

import pytest
from cogapp import Cog

from leanto import PolicyError, parse_policy
from leanto.policy import reader, reference
from leanto.policy.explain import _MARK
from leanto.signals import simulate

AROUND = {"targets.cloud": 'address = "a:1"', "targets.cloud.evidence": f'type = "tdx"\nmrtd = ["{"00" * 48}"]'}
ROOT = Path(__file__).resolve().parents[2]
DOCS = ROOT / "docs"


@pytest.fixture(scope="module")
def policy_page() -> str:
    return (DOCS / "policy.md").read_text()


def test_the_generated_parts_of_the_policy_page_are_what_the_code_says() -> None:
    assert Cog().main(["cog", "--check", str(DOCS / "policy.md")]) == 0, "run: cog -r docs/policy.md"


def test_every_table_of_the_policy_is_in_the_reference(policy_page: str) -> None:
    read = {kind for kind in vars(reader).values() if is_dataclass(kind) and any("read" in option.metadata for option in fields(kind))}
    assert set(reference.TABLES.values()) == read
    for name in reference.TABLES:
        assert f'reference.options("{name}")' in policy_page


def test_a_default_of_the_reference_is_taken_as_it_is_written() -> None:
    for kind in reference.TABLES.values():
        for option in (option for option in fields(kind) if "read" in option.metadata):
            written = reference.default_of(option).strip("`")
            if written not in ("required", "none"):
                assert option.metadata["read"](tomllib.loads(f"x = {written}")["x"]) == option.default


@pytest.mark.parametrize("table", list(reference.TABLES))
def test_an_unknown_name_is_answered_with_all_that_are_allowed(table: str) -> None:
    around = [above for above in AROUND if table.startswith(above) and table != above]
    before = "".join(f"[{above}]\n{AROUND[above]}\n" for above in around)
    with pytest.raises(PolicyError) as caught:
        parse_policy(f"version = 1\n{before}[{table}]\n{AROUND.get(table, '')}\nsurely_not = 1\n", origin="p.toml")
    for option in fields(reference.TABLES[table]):
        if "read" in option.metadata:
            assert option.name in str(caught.value)
    assert "p.toml:" in str(caught.value)


def test_the_example_policy_is_one(policy_page: str) -> None:
    example = re.search(r"```toml\n(.*?)```", policy_page, re.DOTALL)
    assert example is not None
    assert parse_policy(example[1]).privacy.classes["work"] == ("local",)


def test_every_verdict_and_every_label_in_the_code_is_explained(policy_page: str) -> None:
    source = "\n".join((ROOT / "sdk/leanto" / name).read_text() for name in ("policy/decide.py", "cascade.py"))
    labels = set(re.findall(r'"([a-z]+-[a-z-]+|private|battery|temperature|load|offline|confident|uncalibrated)"', source))
    for word in labels | {mark.lower() for mark in _MARK.values()}:
        assert re.search(rf"(?<![\w-]){word}(?![\w-])", policy_page), word


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
