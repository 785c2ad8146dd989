"""Hypothesis strategies for the values that several tests draw: devices, policies, requests, and evidence."""

from __future__ import annotations

from types import MappingProxyType

from hypothesis import strategies as st

from leanto import Policy, Snapshot
from leanto.ledger import Spending
from leanto.policy import Facts, Spent
from leanto.policy.schema import DEFAULT_CLASSES, Budgets, ConfidenceThreshold, Handoff, Offline, Privacy, Quality
from leanto_edge import Token

targets = st.sampled_from([("local",), ("cloud",), ("local", "cloud")])
privacy_classes = st.sampled_from(["public", "personal", "secret", "custom", "unheard-of"])
finite = st.floats(allow_nan=False, allow_infinity=False)

snapshots = st.builds(
    Snapshot,
    battery_percent=st.none() | st.floats(0, 100),
    plugged=st.none() | st.booleans(),
    cpu_load=st.none() | st.floats(0, 64),
    memory_available_bytes=st.none() | st.integers(0, 2**40),
    temperature_c=st.none() | st.floats(-60, 200),
    link=st.sampled_from(["up", "down", "unknown"]),
    taken_at=st.floats(0, 1e10),
    battery_power_w=st.none() | st.floats(0, 200),
    memory_pressure=st.none() | st.floats(0, 1),
    throttled=st.none() | st.booleans(),
    metered=st.none() | st.booleans(),
    rtt_ms=st.none() | st.floats(0, 10_000),
    strained=st.sets(st.sampled_from(["battery_percent", "temperature_c", "cpu_load", "memory_pressure", "rtt_ms"])).map(tuple),
)

thresholds = st.just("artifact") | st.floats(0, 1)

policies = st.builds(
    Policy,
    privacy=st.builds(
        Privacy,
        default=st.just("personal"),
        classes=st.fixed_dictionaries({"public": targets, "personal": targets, "custom": targets}).map(
            lambda classes: MappingProxyType({**DEFAULT_CLASSES, **classes})
        ),
    ),
    budgets=st.builds(
        Budgets,
        battery_floor_percent=st.floats(0, 100),
        max_temperature_c=st.floats(0, 150),
        max_cpu_load=st.none() | st.floats(0, 100),
        unknown_signals=st.sampled_from(["pass", "fail"]),
        max_memory_pressure=st.none() | st.floats(0, 1),
        max_rtt_ms=st.none() | st.floats(0, 10_000),
        metered_link=st.sampled_from(["use", "spare"]),
        cloud_bytes_per_session=st.none() | st.integers(0, 10_000),
        cloud_bytes_per_day=st.none() | st.integers(0, 10_000),
        cloud_calls_per_day=st.none() | st.integers(0, 200),
        cloud_usd_per_day=st.none() | st.floats(0, 10),
        local_joules_per_day=st.none() | st.floats(0, 1e6),
    ),
    quality=st.builds(
        Quality,
        st.builds(ConfidenceThreshold, call=thresholds, text=thresholds),
        router=st.none() | st.just("router"),
        router_floor=st.floats(0, 1),
        uncertified=st.sampled_from(["confidence", "cloud"]),
    ),
    handoff=st.builds(
        Handoff,
        hold_tokens=st.integers(0, 8),
        stream_floor=st.none() | st.floats(-8, 0),
        window=st.integers(1, 6),
        resume=st.sampled_from(["prefix", "restart"]),
        max_switches=st.integers(0, 3),
        max_repeats=st.none() | st.integers(1, 4),
        sticky_turns=st.integers(0, 5),
        sticky_tool_loop=st.booleans(),
        low_floor=st.none() | st.just("artifact") | st.floats(-8, 0),
    ),
    offline=st.builds(Offline, st.sampled_from(["local_best_effort", "fail"])),
)

facts = st.builds(
    Facts,
    task=st.sampled_from(["call", "text"]),
    privacy=privacy_classes,
    prompt_tokens=st.integers(0, 600),
    edge_tasks=st.sampled_from([("call", "text"), ("text",), ()]),
    context_length=st.integers(1, 512),
    cloud_configured=st.booleans(),
    edge_fit=st.booleans(),
    prompt_score=st.none() | st.floats(0, 1),
    turns_since_cloud=st.none() | st.integers(1, 20),
    expected_local_ms=st.none() | st.floats(0, 1e6),
    tool_caller=st.sampled_from([None, "local", "cloud"]),
)

spendings = st.builds(
    Spent,
    bytes_sent=st.integers(0, 20_000),
    last_day=st.builds(
        Spending,
        calls=st.integers(0, 300),
        bytes_sent=st.integers(0, 20_000),
        usd=st.floats(0, 10),
        joules=st.floats(0, 1e6),
        known=st.booleans(),
    ),
)

evidence = st.builds(
    Token,
    id=st.integers(0, 4000),
    text=st.just(""),
    logprob=st.floats(-30, 0),
    margin=st.floats(-30, 30),
    entropy=st.floats(0, 10),
)
