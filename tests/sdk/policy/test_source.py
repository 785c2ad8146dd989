from __future__ import annotations

import base64
import logging
import os
import threading
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from fakes import FakeClock
from leanto import Client, Policy, Snapshot
from leanto.errors import PolicyError
from leanto.policy import Facts, PolicySource, Spent, decide, load_policy
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
    draft.write_text(f"version = 1\n[budgets]\ndeadline_ms = {deadline}\n{more}\n[end]\n")
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


@pytest.mark.parametrize("breakage", ["[budgets", "[budget]\n"])
def test_a_broken_edit_leaves_the_old_policy_but_the_cloud_and_is_logged_once(
    file: Path, caplog: pytest.LogCaptureFixture, breakage: str
) -> None:
    clock = FakeClock()
    source = PolicySource(file, clock=clock.clock)
    write(file, 2000, breakage)
    assert not source.current().closed
    with caplog.at_level(logging.WARNING, "leanto"):
        for _ in range(5):
            clock.advance(LATER)
            assert deadline(source) == 1000
            assert f"{file}:4: " in source.current().closed
    assert [record.getMessage().startswith("nothing leaves this device until") for record in caplog.records] == [True]
    write(file, 3000)
    assert deadline(source) == 1000
    clock.advance(LATER)
    assert deadline(source) == 3000
    assert not source.current().closed


def test_a_file_that_vanishes_leaves_its_policy_but_the_cloud(file: Path) -> None:
    clock = FakeClock()
    source = PolicySource(file, clock=clock.clock)
    file.unlink()
    assert not source.current().closed
    for _ in range(3):
        clock.advance(LATER)
        assert deadline(source) == 1000
        assert "cannot be read" in source.current().closed


CLOUD_TARGET = "[targets.cloud]\naddress = 'a:1'\n"


def test_another_cloud_target_is_not_taken_but_what_else_was_edited_is(file: Path) -> None:
    clock = FakeClock()
    source = PolicySource(file, clock=clock.clock)
    write(file, 2000, CLOUD_TARGET + "[privacy.classes]\npersonal = ['local']\n")
    source.current()
    clock.advance(LATER)
    assert source.current().privacy.classes["personal"] == ("local",)
    assert "[targets.cloud] changed, which needs a new client" in source.current().closed
    write(file, 2000)  # back to the target that the client has
    source.current()
    clock.advance(LATER)
    assert not source.current().closed


STRICT = "version = 1\n[privacy]\ndefault = 'public'\n[[rules]]\nname = 'here'\nif = \"privacy == 'personal'\"\nallow = ['local']\n[end]\n"
PERSONAL = Facts("call", "personal", 9, ("call",), 512, cloud_configured=True)


def leaves(policy: Policy) -> bool:
    return "cloud" in decide(policy, PERSONAL, Snapshot(link="up"), Spent()).constrained


@pytest.mark.parametrize("length", range(0, len(STRICT), 3))
def test_however_much_of_a_file_is_written_when_it_stalls_what_was_private_stays(file: Path, length: int) -> None:
    file.write_text(STRICT)
    clock = FakeClock()
    source = PolicySource(file, clock=clock.clock)
    assert not leaves(source.current())
    file.write_text(STRICT[:length])
    for _ in range(4):
        clock.advance(LATER)
        assert not leaves(source.current())
    file.write_text(STRICT)
    source.current()
    clock.advance(LATER)
    assert not source.current().closed
    assert not leaves(source.current())


def test_an_edit_without_the_last_line_counts_but_opens_nothing(file: Path) -> None:
    clock = FakeClock()
    source = PolicySource(file, clock=clock.clock)
    draft = file.with_suffix(".draft")
    draft.write_text("version = 1\n[budgets]\ndeadline_ms = 2000\n")
    os.replace(draft, file)
    source.current()
    clock.advance(LATER)
    assert deadline(source) == 2000
    assert "make [end] its last line" in source.current().closed
    assert "policy-closed" in decide(source.current(), PERSONAL, Snapshot(link="up"), Spent()).labels


def test_an_edit_that_changes_no_meaning_needs_no_last_line(file: Path) -> None:
    clock = FakeClock()
    source = PolicySource(file, clock=clock.clock)
    before = source.current()
    file.write_text("version = 1 # again\nbudgets.deadline_ms = 1000\n")
    source.current()
    clock.advance(LATER)
    assert source.current() is before


def test_what_is_written_while_it_is_read_counts_for_nothing(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = FakeClock()
    source = PolicySource(file, clock=clock.clock)
    write(file, 2000)
    source.current()
    clock.advance(LATER)

    def meanwhile(text: str, **known: Any) -> Policy:
        policy = parse_policy(text, **known)
        write(file, 3000)
        return policy

    with monkeypatch.context() as patch:
        patch.setattr("leanto.policy.source.parse_policy", meanwhile)
        assert deadline(source) == 1000
    assert deadline(source) == 1000
    clock.advance(LATER)
    assert deadline(source) == 3000


def test_a_file_that_is_written_to_while_it_is_read_is_refused(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fstat, grown = os.fstat, []

    def growing(descriptor: int) -> os.stat_result:
        grown.append(file.write_text("version = 1\n" * (2 + len(grown))))
        return fstat(descriptor)

    monkeypatch.setattr("leanto.policy.source.os.fstat", growing)
    with pytest.raises(PolicyError, match="was written to while it was read"):
        load_policy(file)


def test_a_file_that_was_written_just_now_is_given_time_at_the_start(file: Path) -> None:
    clock, slept = FakeClock(now=2000.0), []

    def touch(text: str) -> None:
        file.write_text(text)
        os.utime(file, (clock.now, clock.now))

    def sleep(seconds: float) -> None:
        slept.append(seconds)
        if len(slept) == 1:
            touch("version = 1\n[budgets]\ndeadline_ms = 7\n")
        clock.advance(seconds)

    touch("version = 1\n[budgets]\n")
    assert deadline(PolicySource(file, clock=clock.clock, sleep=sleep)) == 7
    assert slept == [SETTLED_S]
    slept.clear()
    touch("version = 1\n[end]\n")
    PolicySource(file, clock=clock.clock, sleep=sleep)
    assert slept == []  # it says that it is whole


def test_a_file_that_is_always_being_written_is_refused_at_the_start(file: Path) -> None:
    clock = FakeClock(now=2000.0)
    file.write_text("version = 1\n")

    def sleep(seconds: float) -> None:
        clock.advance(seconds)
        os.utime(file, (clock.now, clock.now))

    os.utime(file, (clock.now, clock.now))
    with pytest.raises(PolicyError, match="is being written all the time"):
        PolicySource(file, clock=clock.clock, sleep=sleep)


def test_threads_that_ask_at_once_see_whole_policies_alone(file: Path) -> None:
    clock = FakeClock()
    source = PolicySource(file, clock=clock.clock)
    seen: set[int] = set()
    done = threading.Event()

    def look() -> None:
        while not done.is_set():
            seen.add(deadline(source))

    threads = [threading.Thread(target=look) for _ in range(4)]
    for thread in threads:
        thread.start()
    for value in range(2000, 2030):
        write(file, value)
        source.current()
        clock.advance(LATER)
        source.current()
    done.set()
    for thread in threads:
        thread.join()
    assert seen <= {1000, *range(2000, 2030)}
    assert not source.current().closed


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


def test_a_signed_policy_needs_no_last_line(file: Path) -> None:
    clock = FakeClock()
    sign_policy(file, KEY)
    source = PolicySource(file, key=PUBLIC, clock=clock.clock)
    file.write_text("version = 1\n[budgets]\ndeadline_ms = 2000\n")
    sign_policy(file, KEY)
    source.current()
    clock.advance(LATER)
    assert deadline(source) == 2000
    assert not source.current().closed


def test_a_signature_that_cannot_be_written_is_a_policy_error(file: Path) -> None:
    Path(f"{file}.sig").mkdir()
    with pytest.raises(PolicyError, match=r"p\.toml\.sig: its signature cannot be written"):
        sign_policy(file, KEY)


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
        ([f"budgets.deadline_ms={'9' * 5000}"], "--set budgets.deadline_ms: budgets.deadline_ms = '999"),
        ([f"budgets.deadline_ms={'[' * 5000}"], "--set budgets.deadline_ms: budgets.deadline_ms = '[[["),
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
