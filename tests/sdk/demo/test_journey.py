from __future__ import annotations

import json
from pathlib import Path
from types import TracebackType
from typing import Any

import pytest

import leanto_edge
from fakes import SURE, UNSURE, FakeCloud, FakeEdge, call_tokens, chunks, tokens
from leanto import RemoteTarget
from leanto.cli import main
from leanto.demo import journey as demo
from leanto.demo.cases import CASES
from leanto.remote import RemoteRequest

DOUBTED = ("find the saga", "i would give", "what does ephemeral")


def right_call(prompt: str) -> str:
    case = next(case for case in CASES if case.utterance == prompt)
    return json.dumps({"intent": case.intent, "slots": dict(case.slots)})


class FakeNode:
    """A node that answers every call right; `stopped` counts how often it was ended."""

    model_id = "fake-large"
    evidence_id = None
    target = RemoteTarget("127.0.0.1:1", "A" * 43 + "=")
    stopped = 0

    def __enter__(self) -> FakeNode:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        FakeNode.stopped += 1


@pytest.fixture
def scripted(monkeypatch: pytest.MonkeyPatch) -> FakeCloud:
    """An edge that is wrong, and knows it, on a few utterances, and a cloud that is right."""

    def edge_script(request: Any) -> Any:
        if request.task == "text":
            return tokens(" sailed out and away")
        sure = not request.prompt.startswith(DOUBTED)
        return call_tokens(right_call(request.prompt) if sure else '{"intent": "none"}', SURE if sure else UNSURE, n=20)

    cloud = FakeCloud(lambda request: chunks(right_call(request.prompt)) if isinstance(request, RemoteRequest) else [])
    monkeypatch.setattr(demo, "open_model", lambda path: FakeEdge(edge_script))
    monkeypatch.setattr(demo, "LocalNode", FakeNode)
    whole = demo.Client

    def client(*, model: Any, cloud: Any, **options: Any) -> Any:
        reachable = cloud is FakeNode.target
        return whole(model=model, cloud=shared if reachable else cloud, sources=(), **options)

    shared = cloud
    monkeypatch.setattr(demo, "Client", client)
    FakeNode.stopped = 0
    return cloud


@pytest.mark.usefixtures("scripted")
def test_json_lines_hold_every_answer_and_the_summary(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["demo", "--json"]) == 0
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [line["event"] for line in lines] == ["started", *["reply"] * (len(CASES) + 1), "summary"]
    by_circumstance = {line["circumstance"]: line for line in lines if line["event"] == "reply" and line["circumstance"]}
    assert by_circumstance["private"]["decision"]["bytes_sent"] == 0
    assert by_circumstance["low battery"]["route"] == "cloud"
    assert "cloud-unreachable" in by_circumstance["low battery, cloud unreachable"]["label"]
    assert lines[-1]["correct"] == pytest.approx((len(CASES) - 1) / len(CASES))
    assert lines[-1]["energy_j"] is None or lines[-1]["energy_j"] > 0
    assert set(lines[-1]["latency_ms"]) == {"local", "cloud", "local→cloud"}
    assert FakeNode.stopped == 1


@pytest.mark.usefixtures("scripted")
def test_the_table_shows_every_utterance_and_the_figures(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("COLUMNS", "400")
    assert main(["demo"]) == 0
    out = capsys.readouterr().out
    assert all(case.utterance in out for case in CASES)
    assert "kept local" in out
    assert "sailed out and away" in out


def test_ctrl_c_ends_the_node(scripted: FakeCloud, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(demo, "_answer", interrupted)
    assert main(["demo"]) == 130
    assert FakeNode.stopped == 1
    assert scripted.requests == []
    assert "Traceback" not in capsys.readouterr().err


def test_the_private_utterance_never_reaches_the_cloud(scripted: FakeCloud) -> None:
    assert main(["demo", "--json"]) == 0
    private = {case.utterance for case in CASES if case.circumstance == "private"}
    assert private
    assert not private & {request.prompt for request in scripted.requests}


def test_the_utterances_are_not_from_the_data(data_dir: Path) -> None:
    known = {json.loads(line)["utterance"] for path in (data_dir / "nlu").glob("*.jsonl") for line in path.read_text().splitlines()}
    assert not known & {case.utterance for case in CASES}


def test_the_real_demo_answers_everything(capsys: pytest.CaptureFixture[str]) -> None:
    if not (leanto_edge.embedded().is_dir() and leanto_edge.embedded_large().is_dir()):
        pytest.skip("the embedded models are absent")
    assert main(["demo", "--json"]) == 0
    summary = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert summary["requests"] == len(CASES) + 1
    assert summary["correct"] > 0.5
