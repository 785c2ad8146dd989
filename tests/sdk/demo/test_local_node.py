from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest

from leanto import CloudUnavailable, MissingExtra
from leanto.demo.local_node import LocalNode


def test_a_node_that_cannot_start_says_why_in_one_line(tmp_path: Path) -> None:
    with pytest.raises(CloudUnavailable, match=r"the local node ended at once: .*absent") as caught, LocalNode(tmp_path / "absent"):
        pass
    assert "\n" not in str(caught.value)


def test_without_the_cloud_extra_the_message_names_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(MissingExtra, match=r"leanto\[cloud\]"), LocalNode():
        pass
