from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fakes import FakeMeter
from leanto.signals.energy import Measurement, Rapl


def zone(root: Path, name: str, energy_uj: int, range_uj: int = 1_000_000_000) -> Path:
    folder = root / name
    folder.mkdir(parents=True)
    (folder / "energy_uj").write_text(f"{energy_uj}\n")
    (folder / "max_energy_range_uj").write_text(f"{range_uj}\n")
    return folder


def test_packages_are_added_up_and_their_parts_are_not_counted_twice(tmp_path: Path) -> None:
    zone(tmp_path, "intel-rapl:0", 2_000_000)
    zone(tmp_path, "intel-rapl:1", 3_000_000)
    zone(tmp_path, "intel-rapl:0:0", 1_500_000)
    assert Rapl(tmp_path).read_j() == 5.0
    assert Rapl(tmp_path).readable


def test_a_counter_that_wraps_gives_the_energy_all_the_same(tmp_path: Path) -> None:
    folder = zone(tmp_path, "intel-rapl:0", 999_000_000)
    meter = Rapl(tmp_path)
    start_j = meter.read_j()
    (folder / "energy_uj").write_text("1000000")
    assert meter.since_j(start_j) == 2.0


def test_without_a_counter_there_is_no_number(tmp_path: Path) -> None:
    meter = Rapl(tmp_path / "absent")
    assert (meter.readable, meter.read_j(), meter.since_j(None)) == (False, None, None)


def test_a_counter_that_cannot_be_read_gives_no_number(tmp_path: Path) -> None:
    folder = zone(tmp_path, "intel-rapl:0", 1)
    meter = Rapl(tmp_path)
    (folder / "energy_uj").write_text("garbage")
    assert meter.read_j() is None
    assert not meter.readable


def test_each_package_wraps_for_itself(tmp_path: Path) -> None:
    first, second = zone(tmp_path, "intel-rapl:0", 999_000_000), zone(tmp_path, "intel-rapl:1", 499_000_000, 500_000_000)
    meter = Rapl(tmp_path)
    start_j = meter.read_j()
    (first / "energy_uj").write_text("1000000")
    (second / "energy_uj").write_text("2000000")
    assert meter.since_j(start_j) == 5.0


@given(st.lists(st.tuples(st.integers(0, 900_000), st.integers(0, 400_000)), min_size=1, max_size=20))
def test_whatever_the_counters_do_between_two_readings_is_counted_once(steps: list[tuple[int, int]]) -> None:
    with TemporaryDirectory() as folder:
        zones = [(zone(Path(folder), f"intel-rapl:{i}", 0, limit), limit) for i, limit in enumerate((1_000_000, 500_000))]
        meter, shown = Rapl(Path(folder)), [0, 0]
        for step in steps:
            for i, (path, limit) in enumerate(zones):
                shown[i] = (shown[i] + step[i]) % limit
                (path / "energy_uj").write_text(str(shown[i]))
            assert meter.read_j() is not None
        assert meter.since_j(0.0) == pytest.approx(sum(map(sum, steps)) / 1e6)


def test_the_zone_of_the_whole_platform_is_not_counted_on_top_of_its_packages(tmp_path: Path) -> None:
    (zone(tmp_path, "intel-rapl:0", 2_000_000) / "name").write_text("package-0\n")
    (zone(tmp_path, "intel-rapl:1", 9_000_000) / "name").write_text("psys\n")
    assert Rapl(tmp_path).read_j() == 2.0


@pytest.mark.parametrize("shown", ["-5", "1000000001", "9" * 5000])
def test_a_counter_outside_its_range_gives_no_number_and_spoils_none_after_it(tmp_path: Path, shown: str) -> None:
    folder = zone(tmp_path, "intel-rapl:0", 1_000_000)
    meter = Rapl(tmp_path)
    start_j = meter.read_j()
    (folder / "energy_uj").write_text(shown)
    assert meter.since_j(start_j) is None
    (folder / "energy_uj").write_text("3000000")
    assert meter.since_j(start_j) == 2.0


def test_a_request_is_measured_by_the_best_meter_that_lasts_until_its_end() -> None:
    lost = FakeMeter(1.0)
    best, other = Measurement([lost, FakeMeter(0.25)]), Measurement([lost, FakeMeter(0.25)])
    assert best.stop()[0] == 2.0  # both of them read the first
    lost.step_j = None
    assert other.stop() == (0.25, "rapl")
    assert Measurement([FakeMeter(None)]).stop() == (None, "")
