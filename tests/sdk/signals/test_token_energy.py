"""Joules a token are fitted by a real meter, kept, and used where there is none to read."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fakes import FakeClock, FakeCloud, FakeEdge, FakeMeter, UntouchableCloud, call_tokens, chunks
from leanto import Client, UserError
from leanto.cli import bench_energy, main
from leanto.signals.energy import EnergySource, Estimate
from leanto.signals.token_energy import Sample, TokenEnergy, file_name, fit, measure, own, read, write

CALL = '{"intent": "alarm_query", "slots": {}}'
FOUND = TokenEnergy("edge-build", "rapl", 0.25, 2.0, 0.01)


@dataclass
class Spending:
    """A meter on a machine that takes `prompt_j` and `answer_j` for each token."""

    prompt_j: float
    answer_j: float
    total_j: float = 0.0
    source: EnergySource = "rapl"

    def generate(self, prompt: int, answer: int) -> tuple[int, int]:
        self.total_j += prompt * self.prompt_j + answer * self.answer_j
        return prompt, answer

    def read_j(self) -> float | None:
        return self.total_j

    def since_j(self, start_j: float | None) -> float | None:
        return None if start_j is None else self.total_j - start_j


def calibrated(machine: Spending) -> TokenEnergy:
    grid = [(16, 8), (16, 64), (256, 8), (256, 64)]
    clock = FakeClock(tick_s=0.1).clock
    samples = [measure(machine, lambda p=p, a=a: machine.generate(p, a), seconds=2.0, clock=clock) for p, a in grid]  # type: ignore[misc]
    return fit("edge-build", machine.source, samples)


@given(prompt_j=st.floats(1e-6, 10), ratio=st.floats(0.1, 100))
def test_what_a_machine_takes_for_a_token_is_found(prompt_j: float, ratio: float) -> None:
    found = calibrated(Spending(prompt_j, prompt_j * ratio))
    assert (found.prompt_token_j, found.answer_token_j) == (pytest.approx(prompt_j, rel=1e-6), pytest.approx(prompt_j * ratio, rel=1e-6))
    assert found.error == pytest.approx(0.0, abs=1e-9)
    assert found.joules(100, 10) == pytest.approx(prompt_j * (100 + 10 * ratio), rel=1e-6)


@given(st.lists(st.builds(Sample, st.integers(1, 500), st.integers(1, 500), st.floats(1e-3, 1e3)), min_size=2, max_size=8))
def test_no_token_ever_gives_energy_back(samples: list[Sample]) -> None:
    try:
        found = fit("b", "rapl", samples)
    except UserError:
        return
    assert found.prompt_token_j >= 0
    assert found.answer_token_j >= 0
    assert found.error >= 0


def test_samples_that_tell_prompts_and_answers_not_apart_are_refused() -> None:
    with pytest.raises(UserError, match="all of one proportion"):
        fit("b", "rapl", [Sample(10, 5, 1.0), Sample(20, 10, 2.0)])


@pytest.mark.parametrize("meter", [FakeMeter(None), FakeMeter(0.0)])
def test_a_meter_that_gives_out_is_said(meter: FakeMeter) -> None:
    with pytest.raises(UserError, match="--seconds 8"):
        measure(meter, lambda: (1, 1), seconds=2.0, clock=FakeClock(tick_s=1.0).clock)


def asked(path: Path | None, meter: Any, cloud: Any = None, **options: Any) -> tuple[float | None, str]:
    edge = FakeEdge(call_tokens(CALL, n=6))
    with Client(model=edge, cloud=cloud, sources=(), meter=meter, energy=path, **options) as client:
        decision = client.ask("one two three four").decision
    return decision.energy_j, decision.energy_source


def test_where_no_meter_can_be_read_the_tokens_are_counted(tmp_path: Path) -> None:
    write(tmp_path / "e", FOUND)
    for meter in (Estimate(4.0), FakeMeter(None)):
        assert asked(tmp_path / "e", meter) == (4 * 0.25 + 6 * 2.0, "token-estimate")
    assert asked(tmp_path / "e", FakeMeter(0.5)) == (0.5, "rapl")
    assert asked(None, Estimate(4.0), UntouchableCloud())[1] == "estimate"
    assert asked(tmp_path / "e", Estimate(4.0), FakeCloud(chunks(CALL)), simulate="battery=5%")[1] == "estimate"  # no token of the edge


def test_the_users_own_file_is_found_by_the_build(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    assert own("edge-build") is None
    (tmp_path / "leanto").mkdir()
    write(tmp_path / "leanto" / file_name("edge-build"), FOUND)
    assert own("edge-build") == FOUND
    assert asked(None, Estimate(4.0)) == (13.0, "token-estimate")
    assert own("another") is None
    (tmp_path / "leanto" / file_name("edge-build")).write_text("half")
    assert asked(None, Estimate(4.0))[1] == "estimate"


@pytest.mark.parametrize(
    ("written", "why"),
    [
        ("", "is no file of joules"),
        ("[]", "is no file of joules"),
        (json.dumps({"version": 1}), "is no file of joules"),
        ({"answer_token_j": -1.0}, "is no file of joules"),
        ({"answer_token_j": float("nan")}, "is no file of joules"),
        ({"answer_token_j": "1"}, "is no file of joules"),
        ({"version": 2}, "is no file of joules"),
        ({"build_hash": "other"}, "is of another model"),
        (None, "cannot be read"),
    ],
)
def test_a_file_that_is_none_is_refused_in_one_line(written: Any, why: str, tmp_path: Path) -> None:
    path = tmp_path / "e"
    if isinstance(written, str):
        path.write_text(written)
    elif written is not None:
        write(path, FOUND)
        path.write_text(json.dumps(json.loads(path.read_text()) | written))
    with pytest.raises(UserError, match=why):
        read(path, "edge-build")


def test_the_command_measures_and_writes_what_clients_find(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    machine = Spending(0.001, 0.01)
    monkeypatch.setattr(bench_energy, "best_meter", lambda: machine)
    generate = bench_energy._generate

    def metered(*arguments: Any) -> tuple[int, int]:
        return machine.generate(*generate(*arguments))

    monkeypatch.setattr(bench_energy, "_generate", metered)
    assert main(["bench", "energy", "--seconds", "0.01", "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert (said["prompt_token_j"], said["answer_token_j"]) == (pytest.approx(0.001), pytest.approx(0.01))
    found = own(said["build_hash"])
    assert found is not None
    assert replace(found, build_hash="") == TokenEnergy("", "rapl", said["prompt_token_j"], said["answer_token_j"], said["error"])
    with Client(sources=(), meter=FakeMeter(None)) as client:
        assert client.ask("wake me at six").decision.energy_source == "token-estimate"


def test_without_a_meter_the_command_says_what_it_would_need(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(bench_energy, "best_meter", Estimate)
    assert main(["bench", "energy"]) == 2
    assert "no meter can be read here: RAPL" in capsys.readouterr().err
