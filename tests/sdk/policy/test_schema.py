from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from leanto import Policy, PolicyError, default_policy, load_policy, parse_policy
from leanto.policy.schema import CloudTarget

ROOT = "A" * 43 + "="


def refusal(source: str) -> PolicyError:
    with pytest.raises(PolicyError) as caught:
        parse_policy(source, origin="my.toml")
    assert "\n" not in str(caught.value)
    assert caught.value.exit_code == 2
    return caught.value


def test_the_shipped_policy_says_exactly_the_defaults_of_the_code() -> None:
    assert default_policy() == Policy()


def test_every_name_can_be_set() -> None:
    policy = parse_policy(
        f"""
        version = 1
        [targets.cloud]
        address = "node.example:443"
        development_root = "{ROOT}"
        tls_root_certificates = "roots.pem"
        timeout_ms = 1
        [privacy]
        default = "work"
        [privacy.classes]
        work = ["cloud"]
        [budgets]
        deadline_ms = 5
        battery_floor_percent = 20
        max_temperature_c = 70
        max_cpu_load = 2
        cloud_bytes_per_session = 1000
        [quality.confidence_threshold]
        call = 0.9
        text = "artifact"
        [handoff]
        hold_tokens = 3
        stream_floor = "off"
        window = 4
        resume = "restart"
        max_switches = 2
        [offline]
        mode = "fail"
        """
    )
    assert policy.cloud == CloudTarget("node.example:443", ROOT, "roots.pem", 1)
    assert policy.privacy.classes["work"] == ("cloud",)
    assert policy.privacy.classes["secret"] == ("local",)
    assert (policy.budgets.cloud_bytes_per_session, policy.handoff.stream_floor) == (1000, None)
    assert policy.quality.confidence_threshold.call == 0.9
    assert policy.offline.mode == "fail"


@pytest.mark.parametrize(
    ("source", "line", "words"),
    [
        ("", 1, "version = 1"),
        ("version = 2", 1, "version = 1"),
        ("version = true", 1, "version = 1"),
        ("version = 1\n[budgets]\nbatery_floor_percent = 3", 3, "did you mean 'battery_floor_percent'?"),
        ("version = 1\n[budgets]\nfoo = 3", 3, "allowed: deadline_ms, battery_floor_percent"),
        ("version = 1\n[bugdets]", 2, "did you mean 'budgets'?"),
        ("version = 1\n\n[budgets]\ndeadline_ms = -3", 4, "a whole number from 1 to 3600000"),
        ("version = 1\n[budgets]\ndeadline_ms = 1.5", 3, "a whole number"),
        ("version = 1\n[budgets]\nmax_cpu_load = nan", 3, "a number from 0"),
        ("version = 1\n[budgets]\nmax_cpu_load = true", 3, "a number from 0"),
        ("version = 1\nbudgets.deadline_ms = 'soon'", 2, "budgets.deadline_ms"),
        ("version = 1\nbudgets = 3", 2, "expected a table"),
        ("version = 1\n[handoff]\nresume = 'never'", 3, "'prefix', 'restart'"),
        ("version = 1\n[handoff]\nstream_floor = 2", 3, "or 'off'"),
        ("version = 1\n[privacy]\ndefault = 'work'", 3, "public, personal, secret"),
        ("version = 1\n[privacy.classes]\nsecret = ['local', 'cloud']", 3, "cannot be widened"),
        ("version = 1\n[privacy.classes]\npublic = []", 3, 'a list of "local" and "cloud"'),
        ("version = 1\n[privacy.classes]\npublic = ['moon']", 3, 'a list of "local" and "cloud"'),
        ("version = 1\n[targets.cloud]\ntimeout_ms = 5", 2, 'needs address = "host:port"'),
        ("version = 1\n[targets.cloud]\naddress = 'http://x'", 3, '"host:port"'),
        ("version = 1\n[targets.cloud]\naddress = 'x:1'\ndevelopment_root = 'abc'", 4, "32-byte public key"),
        ("version = 1\n[targets.moon]", 2, "allowed: cloud"),
        ("version = 1\nversion = 1", 2, "not TOML"),
        ("version = 1\n[a\n", 2, "not TOML"),
        ("\nx = " + "[" * 5000, 2, "not TOML: nested too deeply"),
        ("\n\n[budgets]\ndeadline_ms = 1", 1, "version = 1"),
        ("version = 1\n[x.y]\nz = 2020-01-01", 2, "unknown name 'x' in the top level"),
        ("version = 1\n\nx.y.z = 1", 3, "unknown name 'x' in the top level"),
        ("version = 1\n[[x]]\ny = 1", 2, "unknown name 'x' in the top level"),
        ("version = 1\n# a\u2028b\n[budgets]\nfoo = 1", 4, "unknown name 'foo'"),
        ("version = 1\n[budgets]\ndeadline_ms = " + "9" * 5000, 3, "too many digits"),
        ("version = 1\n[budgets]\ndeadline_ms = 0x" + "f" * 5000, 3, "a huge number: expected a whole number"),
        ("version = 1\n[quality]\nrouter_floor = 0x" + "f" * 5000, 3, "a huge number: expected a number from 0 to 1"),
        ("version = 1\n[targets.cloud]\nsuites = [0x" + "f" * 5000 + "]", 3, "a huge number: expected a whole number"),
        ("version = 1\n" + ".".join("a" * 20_000) + " = 1", 2, "more than 200 dots in one line"),
        ("version = 1\n[privacy.classes]\n" + "a" * 101 + " = ['local']", 3, "at most 100 characters"),
        ("version = 1\n[end]\n[budgets]", 2, "[end] says that the policy is whole: make it the last line"),
        ("version = 1\n[end]\nx = 1", 2, "make it the last line, with nothing in it"),
        ("end = 1\nversion = 1", 1, "make it the last line, with nothing in it"),
    ],
)
def test_a_mistake_is_named_with_its_line_and_what_is_allowed(source: str, line: int | None, words: str) -> None:
    error = refusal(source)
    assert error.line == line
    assert words in str(error)
    assert str(error).startswith("my.toml:")


def test_the_hash_depends_on_the_meaning_alone() -> None:
    plain = parse_policy("version = 1")
    commented = parse_policy("# a comment\nversion = 1\n[budgets]\nmax_temperature_c = 90 # the default\n", origin="elsewhere")
    other = parse_policy("version = 1\n[budgets]\nmax_cpu_load = 7.5")
    assert plain.hash == commented.hash != other.hash


@pytest.mark.parametrize("filler", [" ", "a ", "[", "[ ", "=\n", "\n", "a.b\n"])
def test_a_long_text_costs_a_mistake_no_long_search_for_its_line(filler: str) -> None:
    assert refusal("version = 1\nx = '''\n" + filler * (60_000 // len(filler)) + "'''").line == 2


def test_a_policy_may_say_that_it_is_whole() -> None:
    plain = parse_policy("version = 1\n[budgets]\ndeadline_ms = 5\n")
    for tail in ("[end]", "[end]\n", "\n [end]  # it is\n\n# whole\n", "[end]\r\n"):
        assert parse_policy("version = 1\n[budgets]\ndeadline_ms = 5\n" + tail) == plain


def test_a_policy_reads_back_from_its_own_json_values() -> None:
    assert json.loads(json.dumps(default_policy().to_dict()))["privacy"]["classes"]["secret"] == ["local"]


def test_a_file_that_cannot_be_read_is_refused_by_name(tmp_path: Path) -> None:
    for path in (tmp_path / "absent.toml", tmp_path):
        with pytest.raises(PolicyError, match="cannot be read"):
            load_policy(path)


def test_a_file_that_is_not_utf8_is_refused_with_its_line(tmp_path: Path) -> None:
    (tmp_path / "p.toml").write_bytes(b"version = 1\n# caf\xe9\n")
    with pytest.raises(PolicyError, match=r"p\.toml:2: is not valid UTF-8"):
        load_policy(tmp_path / "p.toml")


def test_an_endless_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "p.toml").write_bytes(b"#" * (2 << 20))
    with pytest.raises(PolicyError, match="larger than"):
        load_policy(tmp_path / "p.toml")


toml_value = st.one_of(st.integers(-(2**62), 2**62), st.booleans(), st.floats(allow_nan=False, allow_infinity=False), st.text(max_size=8))
names = st.sampled_from(
    ["version", "budgets", "deadline_ms", "privacy", "classes", "secret", "quality", "handoff", "window", "offline", "x"]
)
lines = st.one_of(
    st.builds(lambda name: f"[{name}]", names),
    st.builds(lambda a, b: f"[{a}.{b}]", names, names),
    st.builds(lambda name, value: f"{name} = {json.dumps(value)}", names, toml_value),
    st.text(max_size=12),
)


@given(st.lists(lines, max_size=6))
def test_any_text_is_a_policy_or_a_policy_error_with_a_line(body: list[str]) -> None:
    source = "version = 1\n" + "\n".join(body)
    try:
        line = None if len(parse_policy(source).hash) == 64 else 0
    except PolicyError as error:
        line = error.line or 0
    assert line is None or 1 <= line <= len(source.split("\n"))


def test_a_number_of_too_many_digits_is_a_policy_error() -> None:
    with pytest.raises(PolicyError, match="not TOML"):
        parse_policy("version = 1\nx = " + "9" * 5000)


def test_a_number_larger_than_any_float_is_out_of_range() -> None:
    with pytest.raises(PolicyError, match="expected a number from 0 to 100"):
        parse_policy("version = 1\n[budgets]\nbattery_floor_percent = 1" + "0" * 400)
