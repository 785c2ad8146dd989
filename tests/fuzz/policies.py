"""Policies and their conditions, what the command line says beside them, and the decision log that another policy is tried on."""

from __future__ import annotations

import json
from dataclasses import replace
from functools import cache
from random import Random
from typing import Any

import promises
from fuzz.changes import changed, changed_json, changed_toml, drawn, fixed, json_of, text
from fuzz.target import Target, written
from leanto.decision import Check, Decision, Facts, Promise, Spent
from leanto.errors import PolicyError, SignalError, TargetError, UserError
from leanto.policy import decide, default_policy, parse_policy
from leanto.policy.logged import read_log
from leanto.policy.overrides import from_arguments
from leanto.policy.replay import replay
from leanto.policy.schema import Policy
from leanto.remote.configured import remote_target
from leanto.signals import Snapshot
from leanto.signals.rehearsal import simulate

HASH, LONG = "ab" * 32, "ab" * 48
GATEWAY = "AQAgB6N8vBQgk8i3VdwbEOhssCY3StFqQFQ47A4GjMQyXEgABAABAAE="
COMMON = f"""version = 1
[privacy]
default = "personal"
[privacy.classes]
public = ["local", "cloud"]
mine = ["cloud"]
[budgets]
deadline_ms = 30000
max_cpu_load = "off"
cloud_usd_per_day = 0.5
unknown_signals = "fail"
[quality]
certificates = ["artifact"]
certificate_key = "{promises.PUBLIC}"
router_floor = 0.5
[quality.confidence_threshold]
call = 0.5
text = "artifact"
[handoff]
hold_tokens = 16
stream_floor = -2.5
resume = "prefix"
[offline]
mode = "fail"
[audit]
share = 0.1
classes = ["public"]
[[rules]]
name = "long"
if = "prompt_tokens > 300 && task == 'text'"
prefer = "cloud"
[[rules]]
name = "secret words"
if = 'privacy == "personal" || link.startsWith("do")'
allow = ["local"]
unknown = "skip"
[targets.cloud]
address = "node.example:443"
timeout_ms = 20000
padding = "constant"
cadence_ms = 50
cadence_frames = 32
suites = [1, 2]
"""
NODES = (
    f"""development_root = "{promises.PUBLIC}"
hedge_after_ms = 100
[targets.cloud.log]
key = "example.com/leanto+00000000+AAAA"
store = "checkpoint"
witnesses = ["w+1+AA"]
quorum = 1
tiles = "https://log.example"
[targets.cloud.tokens]
issuer = "https://issuer.example"
origin = "node.example"
store = "wallet"
batch = 4
[targets.cloud.relay]
url = "https://relay.example"
gateway_key = "{GATEWAY}"
""",
    f"""[targets.cloud.evidence]
type = "sev-snp"
measurements = ["{LONG}"]
minimum_tcb = {{ bootloader = 4, tee = 0, snp = 23, microcode = 213 }}
releases = ["{HASH}"]
require_crl = true
max_lifetime_s = 3600
[targets.cloud.evidence.nvidia]
roots = ["{HASH}"]
devices = 2
""",
    f"""[targets.cloud.evidence]
type = "tdx"
mrtd = ["{LONG}"]
tcb_statuses = ["UpToDate", "SWHardeningNeeded"]
""",
    f"""[targets.cloud.evidence]
type = "nitro"
pcr0 = ["{LONG}"]
pcr8 = ["{LONG}"]
""",
)


def policy_seed(random: Random) -> bytes:
    """One that says nearly all that can be said."""
    return (COMMON + random.choice(NODES)).encode()


def policy(raw: bytes) -> None:
    """Read, hashed, and made into a target to dial. What was accepted says the same when it is read again."""
    found = parse_policy(text(raw))
    assert len(found.hash) == 64
    remote_target(found.cloud)


ATOMS = (
    "task", "privacy", "prompt_tokens", "edge_fit", "battery_percent", "plugged", "temperature_c", "link", "metered", "rtt_ms",
    "bytes_sent", "1", "0", "-1", "0.5", "1e308", "9223372036854775807", "''", '"text"', "true", "null", "[]", "[1, 2]", "{}",
    '{"a": 1}', "b'\\xff'",
)  # fmt: skip
FORMS = (
    "{} == {}", "{} > {}", "{} + {}", "{} % {}", "{} / {}", "{} && {}", "{} || {}", "!{}", "-{}", "({})", "{} ? {} : {}", "{} in [{}, {}]",
    "{}.startsWith({})", "{}.contains({})", "{}.matches({})", "size({})", "{}[{}]", "{}.a", "has({}.a)", "{} * {}", "[{}, {}]",
    "{{{}: {}}}",
)  # fmt: skip


def condition_seed(random: Random) -> bytes:
    """A condition by the grammar of CEL, of any sense."""

    def expression(depth: int) -> str:
        if depth == 0 or random.random() < 0.2:
            return random.choice(ATOMS)
        form = random.choice(FORMS)
        return form.format(*(expression(depth - 1) for _ in range(3)))

    sound = ("prompt_tokens > 300", "task == 'text' && size(privacy) < 9", "link.matches('^u(p|x)*$')", "rtt_ms / 2.0 > 1.0 || plugged")
    return (random.choice(sound) if random.random() < 0.6 else expression(random.randrange(1, 5))).encode()


def changed_condition(random: Random, raw: bytes) -> bytes:
    """In a few places, or nested as deep as may be."""
    if random.random() < 0.8:
        return changed(random, raw)
    opening, closing = random.choice(
        (("(", ")"), ("[", "]"), ("!", ""), ("-", ""), ("size(", ")"), ("true ? ", " : 0"), ("a.b", ""), ("1+", ""))
    )
    times = random.choice((5, 30, 90, 240, 480))
    return opening.encode() * times + raw[:20] + closing.encode() * times


FACTS = Facts("call", "personal", 8, ("call", "text"), 256, cloud_configured=True, prompt_score=0.5, router="r", score="s")
DEVICES = (
    Snapshot(80.0, True, 0.2, 10**9, 40.0, "up"),
    Snapshot(),
    Snapshot(float("nan"), False, float("inf"), 2**62, -1e308, "down", throttled=True, metered=True, rtt_ms=-0.0),
)


def condition(raw: bytes) -> None:
    """A rule of a policy, and what is decided by it on a device, on one that tells nothing, and on one that tells nonsense."""
    written_out = json.dumps(text(raw))
    found = parse_policy(f'version = 1\n[[rules]]\nname = "fuzzed"\nif = {written_out}\nallow = ["local"]\n')
    for facts in (FACTS, replace(FACTS, task="text", privacy="\0" * 300, prompt_tokens=2**62)):
        for device in DEVICES:
            assert decide(found, facts, device, Spent()).checks


@cache
def logged() -> bytes:
    """One decision, with all that a replay asks about."""
    checks = [
        Check("stream", "mean_logprob_16", -0.5, -2.5, "pass", ("local", "cloud")),
        Check("stream", "low_logprob", -1.0, -3.0, "pass", ("local", "cloud")),
        Check("stream", "repeats", 0, 4, "pass", ("local", "cloud")),
        Check("answer", "valid_call", True, True, "pass", ("local", "cloud")),
    ]
    said: dict[str, Any] = {
        "facts": FACTS,
        "spent": Spent(),
        "confidence": 0.9,
        "artifact_threshold": 0.5,
        "promise": Promise(0.5, "", alpha=0.05, delta=0.05),
    }
    counted: dict[str, Any] = {"local_tokens": 20, "total_ms": 10.0, "energy_j": 1.0, "calibrated": True}
    made = Decision("id", HASH, "edge", "m@1", "call", "personal", DEVICES[0], tuple(checks), "local", ("confident",), **said, **counted)
    return json_of(made.to_dict())


@cache
def policies() -> tuple[Policy, ...]:
    """Those under which a log is replayed."""
    return default_policy(), parse_policy(COMMON + NODES[0])


def decision_log(raw: bytes) -> None:
    """A log of one line: it is skipped, or every policy makes something of it."""
    found, skipped = read_log(written("decisions", raw))
    for each in policies():
        assert replay(found, each, skipped=skipped, now=1e9).routes


def override(raw: bytes) -> None:
    """A value from the command line."""
    from_arguments([text(raw)])


TARGETS = (
    Target("policy.file", drawn(policy_seed, changed_toml), policy, (PolicyError, TargetError), quotes=True),
    Target("policy.condition", drawn(condition_seed, changed_condition), condition, (PolicyError,), quotes=True),
    Target("policy.override", fixed(lambda: b"budgets.deadline_ms=5000", changed_toml), override, (PolicyError,), quotes=True),
    Target("policy.log", fixed(logged, changed_json), decision_log, (UserError,)),
    Target("simulate", fixed(lambda: b"battery=9%,link=down,rtt=1e3"), lambda raw: simulate(text(raw))(), (SignalError,), quotes=True),
)
