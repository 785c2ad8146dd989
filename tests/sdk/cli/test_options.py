from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path

import pytest

from leanto.cli.options import add_client, read_policy
from leanto.errors import TargetError
from leanto.policy import Policy, load_policy

ROOT, OTHER = "A" * 43 + "=", "B" * 42 + "A="
TARGET = f"""version = 1
[targets.cloud]
address = "node.example:443"
development_root = "{ROOT}"
tls_root_certificates = "roots.pem"
timeout_ms = 5000
model = "large"
usd_per_million_prompt_tokens = 3
usd_per_million_answer_tokens = 15
hedge_after_ms = 200
padding = "constant"
cadence_ms = 20
suites = [1, 2]
[targets.cloud.log]
key = "k"
store = "s"
[targets.cloud.tokens]
issuer = "https://issuer.example"
origin = "node"
store = "t"
[targets.cloud.relay]
url = "https://relay.example"
gateway_key = "g"
[end]
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "p.toml"
    path.write_text(TARGET)
    return path


def policy(*arguments: str) -> Policy:
    parser = argparse.ArgumentParser()
    add_client(parser)
    return read_policy(parser.parse_args(arguments))


def test_another_node_keeps_all_that_the_policy_says_of_the_target(file: Path) -> None:
    written = load_policy(file).cloud
    assert written is not None
    assert policy("--policy", str(file), "--cloud", "other:1").cloud == replace(written, address="other:1")
    found = policy("--policy", str(file), "--cloud", "other:1", "--development-root", OTHER).cloud
    assert found == replace(written, address="other:1", development_root=OTHER)


def test_a_node_without_a_policy_of_its_own_is_a_plain_target() -> None:
    found = policy("--cloud", "127.0.0.1:9", "--development-root", ROOT).cloud
    assert found is not None
    assert (found.address, found.development_root, found.timeout_ms) == ("127.0.0.1:9", ROOT, 10_000)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--cloud", "nowhere"), "host:port"),
        (("--cloud", "a:1", "--development-root", "x"), "32-byte"),
        (("--development-root", ROOT), "too"),
    ],
)
def test_a_node_that_cannot_be_read_is_a_target_error(file: Path, arguments: tuple[str, ...], message: str) -> None:
    with pytest.raises(TargetError, match=message):
        policy("--policy", str(file), *arguments)


def test_no_root_stands_in_for_evidence_of_hardware(file: Path) -> None:
    evidence = f'[targets.cloud.evidence]\ntype = "tdx"\nmrtd = ["{"a" * 96}"]\n[end]\n'
    file.write_text(TARGET.replace(f'development_root = "{ROOT}"\n', "").replace("[end]\n", evidence))
    found = policy("--policy", str(file), "--cloud", "other:1").cloud
    assert found is not None
    assert found.address == "other:1"
    assert found.evidence is not None
    with pytest.raises(TargetError, match="which no development root replaces"):
        policy("--policy", str(file), "--cloud", "other:1", "--development-root", ROOT)
