from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from fakes import UNSURE, FakeCloud, FakeEdge, FakeMeter, UntouchableCloud, call_tokens, chunks, tokens
from leanto import (
    AsyncClient,
    Client,
    FinalEvent,
    ModelError,
    OutputError,
    Policy,
    PromptRefused,
    RemoteTarget,
    TargetError,
    TextEvent,
    parse_policy,
)
from leanto.remote import RemoteLeg
from leanto_edge import Token

CALL = '{"intent": "alarm_query", "slots": {}}'
SECRET_WORDS = "zanzibar"


def make(edge: FakeEdge | None = None, **options: Any) -> Client:
    known: dict[str, Any] = {"sources": (), "meter": FakeMeter(), **options}
    return Client(model=edge or FakeEdge(call_tokens(CALL)), **known)


def test_a_sync_client_answers_with_the_async_implementation() -> None:
    with make() as client:
        reply = client.ask("when do I wake")
    assert reply.call == json.loads(CALL)
    assert reply.energy_j == 0.5


def test_a_sync_stream_yields_the_same_events() -> None:
    with make(FakeEdge(tokens("a b c"))) as client:
        events = list(client.stream("once", task="text"))
    assert "".join(event.text for event in events if isinstance(event, TextEvent)) == "a b c"
    assert isinstance(events[-1], FinalEvent)


def test_leaving_a_sync_stream_early_closes_the_edge() -> None:
    edge = FakeEdge(tokens(" ".join("a" * 60)))
    with make(edge) as client:
        for _ in client.stream("once", task="text"):
            break
    assert edge.open == 0
    assert edge.pulled < 60


def test_one_client_answers_several_threads_at_once() -> None:
    gate = threading.Barrier(3, timeout=20)

    def together(_: object) -> Iterator[Token]:
        gate.wait()
        yield from call_tokens(CALL)

    texts: list[str] = []
    with make(FakeEdge(lambda request: list(together(request)))) as client:
        workers = [threading.Thread(target=lambda: texts.append(client.ask("now").text)) for _ in range(3)]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()
    assert texts == [CALL] * 3


def test_a_closed_client_says_so() -> None:
    client = make()
    client.close()
    client.close()
    with pytest.raises(RuntimeError, match="closed"):
        client.ask("x")


def test_the_task_defaults_to_what_the_model_knows() -> None:
    edge = FakeEdge(tokens("a b"), tasks=("text",))
    with make(edge) as client:
        client.ask("once")
    assert edge.requests[0].task == "text"


def test_explain_spends_no_token_and_shows_what_is_still_to_come() -> None:
    edge = FakeEdge(call_tokens(CALL), confidence={"call": {"threshold": 0.7, "ece": 0.0561, "stream_floor": -0.5}})
    with make(edge, cloud=UntouchableCloud()) as client:
        decision = client.explain("when do I wake")
    assert "expected calibration error 0.056" in decision.explain()
    assert edge.requests == []
    assert decision.route == "local"
    assert [(check.name, check.threshold) for check in decision.checks if check.verdict == "pending"] == [
        ("mean_logprob_16", -2.5),
        ("low_logprob", -0.5),
        ("confidence", 0.7),
    ]


CALIBRATED = {"call": {"threshold": 0.5}, "text": {"threshold": 0.5}}


def test_an_unfit_model_leaves_the_answer_to_the_cloud_and_the_decision_says_why() -> None:
    edge = FakeEdge(call_tokens(CALL), fit=False, confidence=CALIBRATED)
    with make(edge, cloud=FakeCloud(chunks("from afar"))) as client:
        reply = client.ask("when do I wake", task="text")
    assert reply.text == "from afar"
    assert edge.pulled == 0
    assert "unfit" in reply.decision.labels
    assert ("edge_fit", "veto") in [(check.name, check.verdict) for check in reply.decision.checks]


def test_an_unfit_model_that_must_answer_is_never_called_confident() -> None:
    with make(FakeEdge(tokens("a b"), fit=False, confidence=CALIBRATED), cloud=UntouchableCloud()) as client:
        reply = client.ask("mine alone", task="text", private=True)
        planned = client.explain("mine alone", task="text", private=True)
    assert reply.text == "a b"
    assert {"unfit", "uncalibrated"} <= set(reply.decision.labels)
    assert "confident" not in reply.decision.labels
    assert [check.threshold for check in planned.checks if check.name == "confidence"] == [None]


def test_a_private_flag_and_another_class_contradict_each_other() -> None:
    with make() as client, pytest.raises(PromptRefused, match="contradict"):
        client.ask("x", private=True, privacy="public")


def test_an_unknown_privacy_class_is_refused_with_those_there_are() -> None:
    with make() as client, pytest.raises(PromptRefused, match="public, personal, secret"):
        client.ask("x", privacy="top-secret")


def test_sealed_bytes_count_against_the_session() -> None:
    policy = parse_policy("version = 1\n[budgets]\ncloud_bytes_per_session = 150")
    cloud = FakeCloud(chunks(CALL))
    with make(cloud=cloud, policy=policy, simulate="battery=5%") as client:
        routes = [client.ask("x").route for _ in range(3)]
    assert routes == ["cloud", "cloud", "local"]
    assert len(cloud.requests) == 2


def test_a_missing_model_is_a_model_error(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="leanto compress") as caught:
        Client(model=tmp_path / "absent", sources=())
    assert caught.value.path == str(tmp_path / "absent")


def test_a_log_that_cannot_be_written_is_refused_at_once(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="cannot be written"):
        make(log=tmp_path)


def test_a_cloud_address_that_cannot_be_used_is_refused_at_once() -> None:
    with pytest.raises(TargetError):
        AsyncClient(model=FakeEdge([]), sources=(), cloud=RemoteTarget("192.0.2.1:5"))


def test_a_confidence_model_for_other_features_is_a_model_error() -> None:
    edge = FakeEdge(call_tokens(CALL), confidence={"call": {"features": ["length"], "threshold": 0.5}})
    with make(edge) as client, pytest.raises(ModelError, match="calibrate again"):
        client.ask("x")


def test_the_cloud_leg_is_closed_with_the_client() -> None:
    cloud = FakeCloud(chunks(CALL))
    with make(FakeEdge(call_tokens(CALL, UNSURE)), cloud=cloud, simulate="battery=5%") as client:
        client.ask("x")
    assert cloud.closed


def test_a_cancelled_request_is_recorded_too(tmp_path: Path) -> None:
    async def leave() -> None:
        async with AsyncClient(model=FakeEdge(tokens("a b c d e")), sources=(), log=tmp_path / "log", policy=Policy()) as client:
            events = client.stream("once", task="text")
            async for _ in events:
                break
            await events.aclose()

    asyncio.run(leave())
    assert len((tmp_path / "log").read_text().splitlines()) == 1


def test_no_prompt_and_no_answer_is_in_the_decision_log(tmp_path: Path) -> None:
    with make(FakeEdge(tokens("xylophone quagga")), log=tmp_path / "log") as client:
        client.ask(f"tell me of {SECRET_WORDS}", task="text")
        client.ask(f"tell me of {SECRET_WORDS}", task="text", private=True)
    lines = (tmp_path / "log").read_text().splitlines()
    assert [json.loads(line)["privacy"] for line in lines] == ["personal", "secret"]
    assert not any(word in line for line in lines for word in (SECRET_WORDS, "xylophone", "quagga"))


def test_a_real_leg_is_made_only_when_the_cloud_is_needed(monkeypatch: pytest.MonkeyPatch) -> None:
    def forbidden(*_: object, **__: object) -> None:
        raise AssertionError("a leg was made")

    monkeypatch.setattr(RemoteLeg, "__init__", forbidden)
    with make(cloud=RemoteTarget("127.0.0.1:9", None)) as client:
        assert client.ask("x").route == "local"
        assert client.ask("x", private=True).route == "local"
