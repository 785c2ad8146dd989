from __future__ import annotations

import re
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest

from leanto import Policy, Snapshot
from leanto.decision import Facts, Promise, Spent
from leanto.errors import OutputError
from leanto.policy.logged import Logged
from leanto.policy.replay import replay
from leanto.report import Outcomes, Report, calibration_page, replay_page, write
from leanto.report.chart import Line, plot, standalone
from leanto.report.page import Figure, png
from leanto.report.scale import Scale

FACTS = Facts("call", "personal", 8, ("call",), 256, cloud_configured=True)
FINE = Snapshot(80.0, True, 0.2, 10**9, 40.0, "up")


def logged(route: str, ms: float, **more: Any) -> Logged:
    known: dict[str, Any] = {"confidence": 0.9, "calibrated": True, "artifact_threshold": 0.5, "promise": Promise(), "lowest": None}
    known |= {"window": None, "energy_j": 0.2, "usd": 0.0, "bytes_sent": 0}
    return Logged(route, FACTS, Spent(), FINE, total_ms=ms, **{**known, **more})


def replayed() -> Report:
    log = [logged("local", 10.0), logged("local", 12.0), logged("local→cloud", 90.0, confidence=0.2)]
    pairs = ([0.1, 0.6, 0.9, 0.95], [True, True, False, False])
    return replay_page(log, replay(log, Policy()), Policy(), pairs)


def test_a_page_stands_alone() -> None:
    page = replayed().html()
    assert not re.search(r"<script|<link|@import|url\(|\bsrc=|\bhref=", page)
    assert set(re.findall(r"https?://[^\"']+", page)) == {"http://www.w3.org/2000/svg"}  # a name, not an address
    assert "prefers-color-scheme: dark" in page


def test_a_replay_is_drawn_by_four_charts_and_both_columns() -> None:
    report = replayed()
    assert [figure.name for figure in report.figures] == ["deferral", "reliability", "latency", "energy"]
    rows = {row[0]: row[1:] for row in report.table}
    assert rows["Requests replayed"] == ("3", "3")
    assert rows["Kept local"] == ("66.7 %", "66.7 %")


def test_what_cannot_be_replayed_is_said_on_the_page() -> None:
    log = [logged("local", 10.0), logged("cloud", 50.0, confidence=None, promise=None)]
    page = replay_page(log, replay(log, Policy()), Policy(), None).html()
    assert "1 requests cannot be replayed: the edge did not try it." in page


def test_what_was_not_answered_is_in_no_curve() -> None:
    log = [logged("local", 10.0), logged("local", 900.0, error="DeadlineExceeded")]
    drawn = {figure.name: figure.svg for figure in replay_page(log, replay(log, Policy()), Policy(), None).figures}
    assert "local (1)" in drawn["latency"]
    assert "local (1)" in drawn["energy"]


def test_an_estimate_of_energy_is_called_one() -> None:
    log = [logged("local", 10.0, energy_source="estimate"), logged("local", 11.0, energy_source="rapl")]
    page = replay_page(log, replay(log, Policy()), Policy(), None).html()
    assert "an estimate from processor time (1)" in page
    assert "the processor&#x27;s counters (1)" in page


def test_few_answers_are_not_cut_into_groups_of_one() -> None:
    for n, groups in ((1, 1), (12, 1), (30, 3), (5000, 10)):
        figure = calibration_page("p", Outcomes(np.linspace(0.1, 0.9, n), np.arange(n) % 2 == 0), 0.5).figures[1]
        assert figure.svg.count("<circle") == groups + 1  # and one in the legend


def test_every_chart_is_well_formed_and_named() -> None:
    for figure in replayed().figures:
        tree = ElementTree.fromstring(standalone(figure.svg))
        assert tree.attrib["role"] == "img"
        assert tree.attrib["aria-label"]


def test_nothing_is_drawn_outside_of_its_chart() -> None:
    for figure in replayed().figures:
        tree = ElementTree.fromstring(figure.svg)
        width, height = float(tree.attrib["width"]), float(tree.attrib["height"])
        for shape in tree.iter():
            for name, most in (("x", width), ("cx", width), ("y", height), ("cy", height)):
                assert 0 <= float(shape.attrib.get(name, 0)) <= most


def test_names_are_escaped() -> None:
    drawn = plot("<b>", Scale("a & b", 0, 1), Scale("y", 0, 1), [Line("<script>", [(0, 0), (1, 1)])])
    assert "<script>" not in drawn
    assert ElementTree.fromstring(drawn) is not None


def test_a_calibration_shows_its_chosen_point() -> None:
    random = np.random.default_rng(0)
    score = random.random(200)
    page = calibration_page("pocket", Outcomes(score, random.random(200) < score), 0.8).html()
    assert re.search(r"chosen: \d+% local", page)
    assert "200" in page


def test_a_folder_gets_the_page_and_every_chart(tmp_path: Path) -> None:
    files = {path.name for path in write(replayed(), tmp_path / "out")}
    assert {"report.html", "deferral.svg", "reliability.svg", "latency.svg", "energy.svg"} <= files
    assert [path.name for path in write(replayed(), tmp_path / "page.html")] == ["page.html"]


def test_a_chart_is_a_picture_where_the_extra_is() -> None:
    pytest.importorskip("resvg_py", reason="needs the plots extra")
    picture = png(replayed().figures[0].svg)
    assert picture is not None
    assert picture.startswith(b"\x89PNG")


def test_a_place_that_cannot_be_written_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="cannot be written"):
        write(Report("t", "a", [], [Figure("f", "f", "f", "<svg></svg>")]), tmp_path / "file" / "out")


def test_outcomes_without_an_answer_are_refused() -> None:
    with pytest.raises(ValueError, match="at least one"):
        Outcomes(np.array([]), np.array([], bool))
