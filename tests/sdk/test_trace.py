from __future__ import annotations

import json
import logging
import os
import subprocess
import sys
from dataclasses import fields, replace
from pathlib import Path

import pytest

from leanto import Client, Decision, Snapshot
from leanto.decision import Check, Facts, Promise, Spent
from leanto.trace import VIEWS, DecisionLog, attributes, headers, metadata


def decision() -> Decision:
    return Decision("r1", "p", "e", None, "call", "personal", Snapshot(), (), "local", ("confident",))


def test_each_decision_is_one_appended_json_line(tmp_path: Path) -> None:
    path = tmp_path / "log.jsonl"
    for _ in range(2):
        log = DecisionLog(path)
        log.write(decision())
        log.close()
    records = [json.loads(line) for line in path.read_text().splitlines()]
    assert [record["label"] for record in records] == ["confident", "confident"]


def test_only_the_owner_may_read_the_log(tmp_path: Path) -> None:
    DecisionLog(tmp_path / "log").close()
    assert os.stat(tmp_path / "log").st_mode & 0o077 == 0


def test_a_full_disk_costs_the_line_and_not_the_answer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    log = DecisionLog(tmp_path / "log")

    def full(*_: object) -> int:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched, caplog.at_level(logging.WARNING, "leanto"):
        patched.setattr(os, "write", full)
        log.write(decision())
    assert "No space left" in caplog.text
    log.close()


FILLS = """
import logging, os, resource, sys
from leanto import Decision, Snapshot
from leanto.trace import DecisionLog

logging.basicConfig(format="%(message)s")
path = sys.argv[1]
decision = Decision("r1", "p", "e", None, "call", "personal", Snapshot(), (), "local", ())
log = DecisionLog(path)
log.write(decision)
line, (_, hard) = os.path.getsize(path), resource.getrlimit(resource.RLIMIT_FSIZE)
resource.setrlimit(resource.RLIMIT_FSIZE, (2 * line - 100, hard))
log.write(decision)  # fits in part
log.write(decision)  # does not fit at all
resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard))
log.write(decision)
log.write(decision)
log.close()
print(line)
"""


def test_a_file_that_fills_within_a_line_keeps_the_lines_after_it(tmp_path: Path) -> None:
    pytest.importorskip("resource", reason="needs a limit on the size of files")
    done = subprocess.run([sys.executable, "-c", FILLS, str(tmp_path / "log")], capture_output=True, text=True, timeout=60)
    lengths = [len(line) for line in (tmp_path / "log").read_text().split("\n")]
    whole = int(done.stdout) - 1
    assert lengths == [whole, whole - 99, whole, whole, 0]
    assert done.stderr.count("a decision was not logged") == 1


def test_a_log_that_ends_within_a_line_is_gone_on_with_on_a_new_one(tmp_path: Path) -> None:
    (tmp_path / "log").write_text('{"request_id": "cut o')
    log = DecisionLog(tmp_path / "log")
    log.write(decision())
    log.close()
    torn, line = (tmp_path / "log").read_text().splitlines()
    assert torn == '{"request_id": "cut o'
    assert json.loads(line)["request_id"] == "r1"


def test_headers_are_ascii_and_name_the_first_veto() -> None:
    check = Check("budgets", "battery_percent", 9.0, 15.0, "veto", ("cloud",), "low")
    found = headers(replace(decision(), route="local→cloud", checks=(check,), cloud_model="grün", confidence=0.25))
    assert found["leanto-route"] == "local>cloud"
    assert found["leanto-first-veto"] == "budgets.battery_percent"
    assert found["leanto-cloud-model"] == "gr?n"
    assert found["leanto-confidence"] == "0.2500"
    for name, value in found.items():
        assert name == name.lower()
        assert value.isascii()
        assert value.isprintable()


def test_a_recorder_that_fails_costs_the_record_and_not_the_answer(caplog: pytest.LogCaptureFixture) -> None:
    class Broken:
        closed = False

        def write(self, _: Decision) -> None:
            raise RuntimeError("no")

        def close(self) -> None:
            self.closed = True

    broken = Broken()
    with caplog.at_level(logging.WARNING, "leanto"), Client(recorders=[broken]) as client:
        assert client.ask("wake me up at six").text
    assert "a decision was not recorded: RuntimeError" in caplog.text
    assert broken.closed


FACTS = Facts("call", "personal", 8, ("call",), 256, cloud_configured=True)
MEASURED = {"confidence": 0.5, "artifact_threshold": 0.5, "promise": Promise(), "ttft_ms": 1.0, "cloud_evidence": "tdx:00"}
METERED = {"ece": 0.02, "energy_j": 0.5, "energy_source": "rapl", "wasted_j": 0.1, "error": "DeadlineExceeded"}
WHOLE = replace(decision(), cloud_model="large", facts=FACTS, spent=Spent(), **MEASURED, **METERED)


def test_every_field_of_a_decision_is_told_or_left_out_on_purpose() -> None:
    assert [view.field for view in VIEWS] == [field.name for field in fields(Decision)]


def test_every_view_of_a_field_follows_its_value() -> None:
    told, counted = headers(WHOLE), attributes(WHOLE)
    for view in VIEWS:
        if view.header:
            assert told[f"leanto-{view.header}"] == view.form(getattr(WHOLE, view.field))
        if view.attribute:
            assert view.attribute in counted
    assert set(WHOLE.to_dict()) == {field.name for field in fields(Decision)} | {"label"}


def test_a_field_has_one_name_in_all_views() -> None:
    for view in VIEWS:
        assert (view.header is None) == (view.attribute is None), view.field
        if view.attribute and view.attribute.startswith("leanto."):
            assert view.attribute == f"leanto.{str(view.header).replace('-', '_')}"
    untold = {view.field for view in VIEWS if view.header is None}
    assert untold == {"snapshot", "checks", "facts", "spent", "artifact_threshold", "decided_at"}


def test_a_promise_is_told_with_what_it_promises_or_why_there_is_none() -> None:
    kept = replace(WHOLE, promise=Promise(0.93, "", alpha=0.05, delta=0.05))
    for view in (headers(kept)["leanto-promise"], attributes(kept)["leanto.promise"]):
        assert view == "alpha=0.05, delta=0.05, threshold=0.9300"
    assert headers(WHOLE)["leanto-promise"] == "none: there is none"


def test_grpc_metadata_is_the_headers() -> None:
    assert dict(metadata(WHOLE)) == headers(WHOLE)
    for name, _ in metadata(WHOLE):
        assert not name.startswith("grpc-")
        assert not name.endswith("-bin")


def test_what_is_not_known_is_in_no_view() -> None:
    assert "leanto-cloud-model" not in headers(decision())
    assert "leanto.energy_j" not in attributes(decision())
    assert not {"error.type", "leanto.energy_source"} & set(attributes(decision()))
    assert not {"leanto-error", "leanto-energy-source", "leanto-promise"} & set(headers(decision()))


def test_an_attribute_is_never_content() -> None:
    content = ("gen_ai.input.messages", "gen_ai.output.messages", "gen_ai.system_instructions", "gen_ai.prompt", "gen_ai.completion")
    assert not set(content) & set(attributes(WHOLE))
