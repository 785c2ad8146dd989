from __future__ import annotations

import base64
import logging
import os
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from fakes import FakeClock
from leanto import Client, Policy
from leanto.errors import PolicyError
from leanto.policy import PolicySource, load_policy
from leanto.policy.overrides import Override, from_arguments, from_environment
from leanto.policy.reader import default_policy, origins, parse_policy
from leanto.policy.source import SETTLED_S, policy_of, sign_policy

KEY = Ed25519PrivateKey.from_private_bytes(bytes(range(32)))
PUBLIC = base64.b64encode(KEY.public_key().public_bytes_raw()).decode()
LATER = SETTLED_S + 0.01


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "p.toml"
    write(path, 1000)
    return path


def write(path: Path, deadline: int, more: str = "") -> None:
    draft = path.with_suffix(".draft")
    draft.write_text(f"version = 1\n[budgets]\ndeadline_ms = {deadline}\n{more}")
    os.replace(draft, path)


def deadline(source: PolicySource) -> int:
    return source.current().budgets.deadline_ms


def test_an_edit_is_in_force_once_it_has_settled(file: Path) -> None:
    clock = FakeClock()
    source = PolicySource(file, clock=clock.clock)
    before = source.current()
    write(file, 2000)
    assert deadline(source) == 1000
    clock.advance(LATER)
    assert deadline(source) == 2000
    assert before.budgets.deadline_ms == 1000  # whoever holds the old one keeps it
    assert source.current() is source.current()


def test_a_file_that_is_still_being_written_is_left_alone(file: Path) -> None:
    clock = FakeClock()
    source = PolicySource(file, clock=clock.clock)
    for value in range(2000, 2010):
        write(file, value)
        assert deadline(source) == 1000
        clock.advance(SETTLED_S / 2)
    assert deadline(source) == 1000
    clock.advance(LATER)
    assert deadline(source) == 2009


@pytest.mark.parametrize("breakage", ["[budgets", "[budget]\n", "[targets.cloud]\naddress = 'a:1'\n"])
def test_a_broken_edit_changes_nothing_and_is_logged_once(file: Path, caplog: pytest.LogCaptureFixture, breakage: str) -> None:
    clock = FakeClock()
    source = PolicySource(file, clock=clock.clock)
    write(file, 2000, breakage)
    with caplog.at_level(logging.WARNING, "leanto"):
        for _ in range(5):
            assert deadline(source) == 1000
            clock.advance(LATER)
    assert [record.getMessage().startswith("the policy stays as it was: ") for record in caplog.records] == [True]
    write(file, 3000)
    assert deadline(source) == 1000
    clock.advance(LATER)
    assert deadline(source) == 3000


def test_a_file_that_vanishes_leaves_its_policy_in_force(file: Path) -> None:
    clock = FakeClock()
    source = PolicySource(file, clock=clock.clock)
    file.unlink()
    for _ in range(3):
        assert deadline(source) == 1000
        clock.advance(LATER)


def test_a_clock_that_stands_or_jumps_back_only_delays(file: Path) -> None:
    clock = FakeClock()
    source = PolicySource(file, clock=clock.clock)
    write(file, 2000)
    assert deadline(source) == 1000
    clock.advance(-100)
    assert deadline(source) == 1000
    clock.advance(100 + LATER)
    assert deadline(source) == 2000


def test_a_client_goes_by_the_edited_file(file: Path) -> None:
    clock = FakeClock()
    with Client(policy=file, clock=clock.clock) as client:
        first = client.explain("hello").policy_hash
        write(file, 2000)
        assert client.explain("hello").policy_hash == first
        clock.advance(LATER)
        assert client.explain("hello").policy_hash == client.policy.hash != first


def test_a_signed_policy_is_taken_and_any_change_to_it_is_not(file: Path) -> None:
    sign_policy(file, KEY)
    assert load_policy(file, key=PUBLIC) == load_policy(file)
    signed = file.read_bytes()
    for changed in (signed.replace(b"1000", b"1001"), signed + b"\n", signed[:-1]):
        file.write_bytes(changed)
        with pytest.raises(PolicyError, match="not by the policy key"):
            load_policy(file, key=PUBLIC)


@pytest.mark.parametrize("signature", [b"", b"nonsense", base64.b64encode(bytes(64)), None])
def test_a_missing_or_foreign_signature_is_refused(file: Path, signature: bytes | None) -> None:
    if signature is not None:
        Path(f"{file}.sig").write_bytes(signature)
    with pytest.raises(PolicyError, match="signature"):
        load_policy(file, key=PUBLIC)


def test_another_key_does_not_check_it(file: Path) -> None:
    sign_policy(file, Ed25519PrivateKey.generate())
    with pytest.raises(PolicyError, match="not by the policy key"):
        load_policy(file, key=PUBLIC)
    with pytest.raises(PolicyError, match="not the base64"):
        load_policy(file, key="AAAA")


def test_an_edit_of_a_signed_policy_needs_a_new_signature(file: Path) -> None:
    clock = FakeClock()
    sign_policy(file, KEY)
    source = PolicySource(file, key=PUBLIC, clock=clock.clock)
    write(file, 2000)
    for _ in range(3):
        assert deadline(source) == 1000
        clock.advance(LATER)
    sign_policy(file, KEY)
    assert deadline(source) == 1000
    clock.advance(LATER)
    assert deadline(source) == 2000


def test_a_signed_policy_takes_no_overrides(file: Path) -> None:
    sign_policy(file, KEY)
    with pytest.raises(PolicyError, match="cannot be overridden: remove environment LEANTO_POLICY__BUDGETS__DEADLINE_MS"):
        policy_of(file, PUBLIC, {"LEANTO_POLICY__BUDGETS__DEADLINE_MS": "5"})


def test_a_broken_policy_is_not_signed(file: Path) -> None:
    file.write_text("version = 2\n")
    with pytest.raises(PolicyError):
        sign_policy(file, KEY)


def test_the_command_line_wins_over_the_environment_and_that_over_the_file(file: Path) -> None:
    environment = {"LEANTO_POLICY__BUDGETS__DEADLINE_MS": "2000", "LEANTO_POLICY__OFFLINE__MODE": "fail", "LEANTO_POLICY": str(file)}
    found = policy_of(None, None, environment, from_arguments(["budgets.deadline_ms=3000"])).current()
    assert (found.budgets.deadline_ms, found.offline.mode) == (3000, "fail")
    assert policy_of(None, None, environment).current().budgets.deadline_ms == 2000
    assert policy_of(None, None, {"LEANTO_POLICY": str(file)}).current().budgets.deadline_ms == 1000
    assert policy_of(None, None, {}).current() is default_policy()
    assert policy_of(policy := Policy(), None, environment).current() is policy


def test_a_key_without_a_file_is_a_mistake() -> None:
    with pytest.raises(PolicyError, match="no policy file"):
        policy_of(None, None, {"LEANTO_POLICY_KEY": PUBLIC})


@pytest.mark.parametrize(
    ("texts", "message"),
    [
        (["budgets"], "write table.name=value"),
        (["=1"], "write table.name=value"),
        (["a..b=1"], "write table.name=value"),
        (["budgets.deadline=1"], "--set budgets.deadline: unknown name 'deadline'"),
        (["budgets.deadline_ms=0"], "--set budgets.deadline_ms: budgets.deadline_ms = 0: expected a whole number"),
        (["version.x=1"], "--set version.x: version.x: version is no table"),
        (["privacy.classes.secret=['local', 'cloud']"], "cannot be widened"),
    ],
)
def test_a_mistake_in_an_override_says_where_it_was_given(file: Path, texts: list[str], message: str) -> None:
    with pytest.raises(PolicyError) as caught:
        load_policy(file, overrides=from_arguments(texts))
    assert message in str(caught.value)


def test_values_are_toml_or_plain_words() -> None:
    found = from_environment({"LEANTO_POLICY__A__B": "off", "LEANTO_POLICY__C": "1.5", "OTHER": "x", "LEANTO_POLICY__D": '["local"]'})
    assert [(o.path, o.value) for o in found] == [(("a", "b"), "off"), (("c",), 1.5), (("d",), ["local"])]


@pytest.mark.parametrize("value", ["9" * 5000, "[" * 10_000], ids=["digits", "brackets"])
def test_a_value_that_python_cannot_read_as_toml_is_a_word(value: str) -> None:
    assert from_environment({"LEANTO_POLICY__A": value})[0].value == value


def test_every_value_names_its_origin() -> None:
    source = "version = 1\n\n[budgets]\ndeadline_ms = 5\n\n[privacy.classes]\nwork = ['local']\n"
    override = Override(("offline", "mode"), "fail", "environment X")
    found = origins(source, parse_policy(source, origin="p.toml", overrides=[override]), [override])
    assert found["budgets.deadline_ms"] == (5, "p.toml:4")
    assert found["privacy.classes.work"] == (["local"], "p.toml:7")
    assert found["offline.mode"] == ("fail", "environment X")
    assert found["handoff.window"] == (16, "default")
