from __future__ import annotations

import io
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import leanto
from fakes import UNSURE, FakeEdge, call_tokens, tokens
from leanto import client as client_module
from leanto.cli import build_parser, main

CALL = '{"intent": "alarm_query", "slots": {}}'


@pytest.fixture
def edge(monkeypatch: pytest.MonkeyPatch) -> FakeEdge:
    """A scripted model in place of the embedded one."""
    fake = FakeEdge(lambda request: call_tokens(CALL) if request.task == "call" else tokens("a b c"))
    monkeypatch.setattr(client_module, "open_model", lambda model, **_: fake)
    return fake


def run(*arguments: str) -> int:
    try:
        return main(arguments)
    except SystemExit as left:
        return int(left.code or 0)


def refused(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    """The one line on stderr of a user's mistake."""
    assert run(*arguments) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.endswith("\n")
    assert err.count("\n") == 1
    return err


def feed(monkeypatch: pytest.MonkeyPatch, data: bytes) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(data)))


@pytest.mark.usefixtures("edge")
def test_the_answer_is_on_stdout_and_how_it_came_on_stderr(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("ask", "when do I wake") == 0
    out, err = capsys.readouterr()
    assert out == CALL + "\n"
    assert err.startswith("[local · no-cloud, uncalibrated · confidence 0.95 · ")


@pytest.mark.usefixtures("edge")
def test_explain_of_an_answer_is_on_stderr(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("ask", "when do I wake", "--explain", "--private", "--simulate", "battery=9%") == 0
    assert "because private, battery, uncalibrated  (first veto: constraints.privacy)" in capsys.readouterr().err


@pytest.mark.usefixtures("edge")
def test_a_streamed_answer_is_the_same_text(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("ask", "once", "--task", "text", "--stream") == 0
    assert capsys.readouterr().out == "a b c\n"


@pytest.mark.usefixtures("edge")
def test_json_is_one_object_with_the_decision(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("ask", "when do I wake", "--json") == 0
    record = json.loads(capsys.readouterr().out)
    assert (record["call"]["intent"], record["decision"]["route"]) == ("alarm_query", "local")


@pytest.mark.usefixtures("edge")
def test_streamed_json_is_one_event_a_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("ask", "once", "--task", "text", "--stream", "--json") == 0
    events = [json.loads(line)["event"] for line in capsys.readouterr().out.splitlines()]
    assert events == ["text", "final"]


def test_explain_spends_no_token(edge: FakeEdge, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("explain", "when do I wake", "--simulate", "link=down") == 0
    assert edge.requests == []
    assert "later" in capsys.readouterr().out
    assert run("explain", "when do I wake", "--json") == 0
    assert json.loads(capsys.readouterr().out)["route"] == "local"


def test_a_prompt_may_come_from_standard_input(edge: FakeEdge, monkeypatch: pytest.MonkeyPatch) -> None:
    feed(monkeypatch, "wake me, café\n".encode())
    assert run("ask", "-") == 0
    assert edge.requests[0].prompt == "wake me, café"


@pytest.mark.usefixtures("edge")
@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("ask", ""), "the prompt is empty"),
        (("ask", "a" * 100_000), "has 100000 characters"),
        (("ask", "caf\udce9"), "not valid UTF-8 at character 4"),
        (("ask", "x", "--policy", "absent.toml"), "absent.toml: cannot be read"),
        (("ask", "x", "--simulate", "batery=9"), "one of: battery, plugged"),
        (("ask", "x", "--max-tokens", "0"), "max_tokens is 0"),
        (("ask", "x", "--max-tokens", "many"), "invalid int value"),
        (("ask", "x", "--temperature", "-1"), "temperature is -1.0"),
        (("ask", "x", "--cloud", "nowhere"), "--cloud/--development-root"),
        (("ask", "x", "--cloud", "127.0.0.1:1", "--development-root", "abc"), "32-byte public key"),
        (("ask", "x", "--development-root", "abc"), "give --cloud HOST:PORT too"),
        (("ask", "x", "--private", "--privacy", "public"), "contradict"),
        (("ask",), "required: prompt"),
        (("dance",), "invalid choice"),
        ((), "required: COMMAND"),
        (("policy", "show", "absent.toml"), "absent.toml: cannot be read"),
        (("compress", "x", "-o", ".", "--calibration", "y"), "already exists"),
        (("compress", "x", "-o", "new", "--calibration", "absent.txt"), "absent.txt: the calibration text cannot be read"),
    ],
)
def test_a_mistake_is_one_line_with_what_to_do(arguments: tuple[str, ...], words: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert words in refused(capsys, *arguments)


@pytest.mark.usefixtures("edge")
@pytest.mark.parametrize(("data", "words"), [(b"\xff\xfe", "not valid UTF-8 at byte 1"), (b"a" * 1_000_000, "too long"), (b"", "is empty")])
def test_bad_standard_input_is_refused(
    data: bytes, words: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    feed(monkeypatch, data)
    assert words in refused(capsys, "ask", "-")


def test_a_missing_model_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "is not a model directory" in refused(capsys, "ask", "x", "--model", str(tmp_path / "absent"))


@pytest.mark.usefixtures("edge")
def test_a_fault_exits_1_in_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    policy = tmp_path / "p.toml"
    policy.write_text("version = 1\n[privacy.classes]\npublic = ['cloud']\n")
    assert run("ask", "x", "--policy", str(policy), "--privacy", "public") == 1
    assert capsys.readouterr().err.startswith("leanto: the policy leaves no target for this request (")


def test_ctrl_c_in_mid_stream_exits_130_and_closes_the_edge(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    fake = FakeEdge(tokens(" ".join("a" * 60)))
    monkeypatch.setattr(client_module, "open_model", lambda model, **_: fake)
    whole = client_module.Client.stream

    def interrupted(self: Any, *arguments: Any, **options: Any) -> Iterator[Any]:
        events = whole(self, *arguments, **options)
        try:
            yield next(events)
            raise KeyboardInterrupt
        finally:
            events.close()

    monkeypatch.setattr(client_module.Client, "stream", interrupted)
    assert run("ask", "once", "--task", "text", "--stream") == 130
    assert capsys.readouterr().err == "leanto: interrupted\n"
    assert fake.open == 0


def test_without_the_compress_extra_the_message_names_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "torch", None)
    for name in [name for name in sys.modules if name.startswith("leanto_edge.compress")]:
        monkeypatch.delitem(sys.modules, name)
    text = tmp_path / "text.txt"
    text.write_text("once upon a time")
    line = refused(capsys, "compress", "x", "-o", str(tmp_path / "new"), "--calibration", str(text))
    assert "pip install 'leanto[compress]'" in line


def test_the_shipped_policy_can_be_printed_and_read_back(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("policy", "show") == 0
    path = tmp_path / "p.toml"
    path.write_text(capsys.readouterr().out)
    assert run("policy", "show", str(path)) == 0
    assert json.loads(capsys.readouterr().out)["hash"] == leanto.default_policy().hash


def test_the_version_is_the_packages(capsys: pytest.CaptureFixture[str]) -> None:
    from importlib import metadata

    assert run("--version") == 0
    assert capsys.readouterr().out == f"leanto {leanto.__version__}\n"
    assert metadata.version("leanto") == leanto.__version__


def test_every_command_has_its_help(capsys: pytest.CaptureFixture[str]) -> None:
    for command in ("ask", "explain", "doctor", "demo", "compress", "adapt", "policy"):
        assert run(command, "--help") == 0
        assert command in capsys.readouterr().out
    assert build_parser().prog == "leanto"


@pytest.mark.usefixtures("edge")
def test_a_reader_that_leaves_early_is_no_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    class Closed(io.StringIO):
        def write(self, text: str) -> int:
            raise BrokenPipeError

        def fileno(self) -> int:
            return 99

    redirected: list[tuple[int, int]] = []
    monkeypatch.setattr("os.dup2", lambda a, b: redirected.append((a, b)))
    monkeypatch.setattr(sys, "stdout", Closed())
    assert main(["ask", "once"]) == 1
    assert redirected


def test_a_doubtful_answer_with_an_unreachable_cloud_is_given_and_labelled(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    fake = FakeEdge(call_tokens(CALL, UNSURE))
    monkeypatch.setattr(client_module, "open_model", lambda model, **_: fake)
    policy = tmp_path / "p.toml"
    policy.write_text("version = 1\n[quality.confidence_threshold]\ncall = 0.5\n")
    root = "A" * 43 + "="
    assert run("ask", "x", "--policy", str(policy), "--cloud", "127.0.0.1:9", "--development-root", root) == 0
    out, err = capsys.readouterr()
    assert out == CALL + "\n"
    assert "cloud-unreachable" in err
