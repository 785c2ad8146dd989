from __future__ import annotations

import importlib.util
import json
from pathlib import Path

import pytest

from leanto import CloudUnavailable, MissingExtra
from leanto.demo.local_node import LocalNode, read_ready


def test_a_node_that_cannot_start_says_why_in_one_line(tmp_path: Path) -> None:
    with pytest.raises(CloudUnavailable, match=r"the local node ended at once: .*absent") as caught, LocalNode(tmp_path / "absent"):
        pass
    assert "\n" not in str(caught.value)


def test_without_the_cloud_extra_the_message_names_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(MissingExtra, match=r"leanto\[cloud\]"), LocalNode():
        pass


READY = {"address": "127.0.0.1:4000", "development_root": "cm9vdA==", "model_id": "m@1", "pid": 7}


def test_a_ready_file_says_where_the_node_is_and_which_model_it_serves(tmp_path: Path) -> None:
    (tmp_path / "ready.json").write_text(json.dumps(READY))
    target, model_id = read_ready(tmp_path / "ready.json")
    assert (target.address, target.development_root, model_id) == ("127.0.0.1:4000", "cm9vdA==", "m@1")


@pytest.mark.parametrize(
    "content",
    [
        "",
        "[]",
        "{}",
        "[" * 10_000,
        "\xff",
        *(json.dumps({**READY, **change}) for change in ({"address": "elsewhere"}, {"address": 7}, {"model_id": None})),
    ],
    ids=["empty", "a list", "nothing", "nested", "no UTF-8", "no address", "a number", "no model"],
)
def test_a_ready_file_that_is_none_is_a_fault_in_one_line(tmp_path: Path, content: str) -> None:
    (tmp_path / "ready.json").write_text(content, encoding="latin-1")
    with pytest.raises(CloudUnavailable, match=r"ready\.json: the local node does not say where it is"):
        read_ready(tmp_path / "ready.json")
