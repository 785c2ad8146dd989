"""macOS and Windows, on output of the documented form: no Mac and no Windows was at hand."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fakes import FakeClock
from leanto.signals import Sensors, darwin, windows

COOL = """
Note: No thermal warning level has been recorded
Note: No performance warning level has been recorded
2024-05-02 10:31:07 +0200 CPU Power notify
\tCPU_Scheduler_Limit \t= 100
\tCPU_Available_CPUs \t= 8
\tCPU_Speed_Limit \t= 100
"""
HOT = COOL.replace("Speed_Limit \t= 100", "Speed_Limit \t= 72")
SILENT = """
Note: No thermal warning level has been recorded
Note: No performance warning level has been recorded
Note: No CPU power status has been recorded
"""


@pytest.mark.parametrize(
    ("text", "expected"), [(COOL, {"throttled": False}), (HOT, {"throttled": True}), (SILENT, {}), ("", {}), ("CPU_Speed_Limit = fast", {})]
)
def test_a_mac_that_tells_its_speed_limit_is_throttled_below_all_of_it(text: str, expected: dict[str, Any]) -> None:
    assert darwin.read_thermal(text) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [("1\n", {"memory_pressure": 0.0}), ("2\n", {"memory_pressure": 0.5}), ("4\n", {"memory_pressure": 1.0}), ("3", {}), ("", {})],
)
def test_a_macs_memory_pressure_has_three_levels(text: str, expected: dict[str, Any]) -> None:
    assert darwin.read_pressure(text) == expected


@given(st.text())
def test_whatever_a_command_says_nothing_impossible_is_read(text: str) -> None:
    found = Sensors([lambda: darwin.read_thermal(text), lambda: darwin.read_pressure(text)], clock=FakeClock().clock).read()
    assert found.throttled in (None, False, True)
    assert found.memory_pressure in (None, 0.0, 0.5, 1.0)


def test_a_command_that_is_not_there_says_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(darwin.sys, "platform", "darwin")
    monkeypatch.setattr(darwin.subprocess, "run", lambda *_, **__: (_ for _ in ()).throw(FileNotFoundError()))
    assert (darwin.thermal(), darwin.memory()) == ({}, {})


class Kernel32:
    """The two calls of memoryapi.h; a function object as ctypes makes them."""

    def __init__(self, handle: int | None, low: int, works: bool = True) -> None:
        self.created = 0

        def create(kind: Any) -> int | None:
            assert kind.value == windows.LOW_MEMORY
            self.created += 1
            return handle

        def query(given: Any, answer: Any) -> int:
            assert given.value == handle
            answer._obj.value = low
            return int(works)

        self.CreateMemoryResourceNotification = create
        self.QueryMemoryResourceNotification = query


@pytest.mark.parametrize(
    ("kernel", "expected"),
    [
        (Kernel32(7, 1), {"memory_pressure": 1.0}),
        (Kernel32(7, 0), {"memory_pressure": 0.0}),
        (Kernel32(7, 1, works=False), {}),
        (Kernel32(None, 1), {}),
    ],
)
def test_windows_says_whether_its_memory_is_low(kernel: Kernel32, expected: dict[str, Any]) -> None:
    memory = windows.Memory(kernel)
    assert [memory(), memory()] == [expected, expected]


def test_the_handle_is_made_once() -> None:
    kernel = Kernel32(7, 1)
    memory = windows.Memory(kernel)
    assert memory() == memory()
    assert kernel.created == 1


def test_a_library_without_the_calls_leaves_it_unknown() -> None:
    found = Sensors([windows.Memory(SimpleNamespace())], clock=FakeClock().clock).read()
    assert found.memory_pressure is None
