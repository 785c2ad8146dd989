from __future__ import annotations

from pathlib import Path

from leanto.energy import Rapl


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
