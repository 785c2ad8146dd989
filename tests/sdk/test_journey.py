"""The whole journey with nothing faked: a real model, a real node in its own process, sealed RPC between them."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from leanto import Client, FinalEvent, HandoffEvent, RemoteTarget, TextEvent, parse_policy
from leanto.demo.local_node import LocalNode

PROMPT = "Once upon a time"
TOKENS = 60
DOUBTFUL = parse_policy("version = 1\n[handoff]\nstream_floor = -0.5\nwindow = 4\nhold_tokens = 4")


@pytest.fixture(scope="module")
def node(stories260k: Path) -> Iterator[LocalNode]:
    with LocalNode(stories260k) as running:
        yield running


@pytest.fixture(scope="module")
def alone(stories260k: Path) -> str:
    """What the model says when nobody interferes."""
    with Client(model=stories260k) as client:
        return client.ask(PROMPT, max_tokens=TOKENS).text


def test_a_hand_off_between_equal_models_cannot_be_seen_in_the_text(stories260k: Path, node: LocalNode, alone: str) -> None:
    with Client(model=stories260k, cloud=node.target, policy=DOUBTFUL) as client:
        events = list(client.stream(PROMPT, max_tokens=TOKENS))
    assert any(isinstance(event, HandoffEvent) and event.visible_chars > 0 for event in events)
    assert {event.source for event in events if isinstance(event, TextEvent)} == {"local", "cloud"}
    assert "".join(event.text for event in events if isinstance(event, TextEvent)) == alone
    assert isinstance(events[-1], FinalEvent)
    decision = events[-1].reply.decision
    assert decision.route == "local→cloud"
    assert decision.cloud_model == node.model_id
    assert (decision.cloud_evidence or "").startswith("development:")
    assert decision.bytes_sent > 1000


def test_on_a_low_battery_the_node_says_it_all(stories260k: Path, node: LocalNode, alone: str) -> None:
    with Client(model=stories260k, cloud=node.target, simulate="battery=9%") as client:
        reply = client.ask(PROMPT, max_tokens=TOKENS)
    assert (reply.text, reply.route, reply.decision.label) == (alone, "cloud", "battery")
    assert reply.decision.local_tokens == 0


def test_a_private_request_sends_nothing_even_on_a_low_battery(stories260k: Path, node: LocalNode, alone: str) -> None:
    with Client(model=stories260k, cloud=node.target, simulate="battery=9%") as client:
        reply = client.ask(PROMPT, private=True, max_tokens=TOKENS)
    assert (reply.text, reply.route, reply.decision.bytes_sent) == (alone, "local", 0)


def test_a_node_with_another_root_gets_no_prompt_and_the_edge_answers(stories260k: Path, node: LocalNode, alone: str) -> None:
    stranger = RemoteTarget(node.target.address, "A" * 43 + "=")
    with Client(model=stories260k, cloud=stranger, policy=DOUBTFUL) as client:
        reply = client.ask(PROMPT, max_tokens=TOKENS)
    assert reply.text == alone
    assert "cloud-refused" in reply.decision.labels


def test_when_the_node_is_killed_in_mid_answer_the_edge_completes_it(stories260k: Path, alone: str) -> None:
    with LocalNode(stories260k) as node, Client(model=stories260k, cloud=node.target, policy=DOUBTFUL) as client:
        text = ""
        for event in client.stream(PROMPT, max_tokens=TOKENS):
            if isinstance(event, TextEvent):
                text += event.text
                if event.source == "cloud" and node.pid is not None:
                    os.kill(node.pid, signal.SIGKILL)
                    node.stop()
    assert text == alone


def test_a_node_ends_with_its_block(stories260k: Path) -> None:
    with LocalNode(stories260k) as node:
        pid = node.pid
        assert pid is not None
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)
