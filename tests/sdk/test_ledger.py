from __future__ import annotations

import os
import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest

from fakes import FakeClock
from leanto import Client, Policy, Snapshot
from leanto.errors import OutputError
from leanto.ledger import WINDOW_MINUTES, Ledger, Spending
from leanto.policy import Facts, Spent, decide
from leanto.policy.schema import Budgets

FACTS = Facts("text", "personal", 8, ("call", "text"), 256, cloud_configured=True)
FINE = Snapshot(80.0, True, 0.2, 10**9, 40.0, "up")


def test_what_was_spent_is_there_after_a_restart(tmp_path: Path) -> None:
    first = Ledger(tmp_path / "l")
    first.add(calls=1, bytes_sent=700, usd=0.25, joules=3.5)
    first.add(calls=2)
    first.close()
    assert Ledger(tmp_path / "l").last_day() == Spending(3, 700, 0.25, 3.5)


def test_a_killed_process_loses_nothing_that_it_had_written(tmp_path: Path) -> None:
    program = f"""
import sys
from leanto.ledger import Ledger
ledger = Ledger({str(tmp_path / "l")!r})
while True:
    ledger.add(calls=1, bytes_sent=10)
    print(ledger.last_day().calls, flush=True)
"""
    writer = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True)
    assert writer.stdout is not None
    said = 0
    while said < 50:
        said = int(writer.stdout.readline())
    writer.send_signal(signal.SIGKILL)
    said = max([said, *map(int, writer.communicate()[0].split())])
    found = Ledger(tmp_path / "l").last_day()
    assert found.known
    assert found.calls >= said
    assert found.bytes_sent == 10 * found.calls


def test_processes_and_threads_share_a_file(tmp_path: Path) -> None:
    ledgers = [Ledger(tmp_path / "l") for _ in range(4)]
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda i: ledgers[i % 4].add(calls=1, bytes_sent=i), range(200)))
    assert {ledger.last_day() for ledger in ledgers} == {Spending(200, sum(range(200)))}


def test_a_day_passes_minute_by_minute(tmp_path: Path) -> None:
    clock = FakeClock(now=1e9)
    ledger = Ledger(tmp_path / "l", clock=clock.clock)
    for _ in range(3):
        ledger.add(calls=1)
        clock.advance(60 * WINDOW_MINUTES / 2)
    assert ledger.last_day().calls == 1  # the first is a day and a half old, the second exactly a day
    clock.advance(60 * WINDOW_MINUTES)
    assert ledger.last_day().calls == 0


def test_a_clock_that_jumps_back_forgets_nothing(tmp_path: Path) -> None:
    clock = FakeClock(now=1e9)
    ledger = Ledger(tmp_path / "l", clock=clock.clock)
    ledger.add(calls=5)
    clock.advance(-30 * 86_400)
    assert ledger.last_day().calls == 5
    assert Ledger(tmp_path / "l", clock=clock.clock).last_day().calls == 5


@pytest.mark.parametrize("make", ["folder", "not a database", "absent/l"])
def test_a_file_that_cannot_be_a_ledger_is_a_clear_error(tmp_path: Path, make: str) -> None:
    path = tmp_path / "l"
    if make == "folder":
        path.mkdir()
    elif make == "not a database":
        path.write_text("hello" * 1000)
    else:
        path = tmp_path / make
    with pytest.raises(OutputError, match="the ledger cannot be opened"):
        Ledger(path)


def test_a_ledger_that_cannot_be_written_is_unknown_from_then_on(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path / "l")
    other = Ledger(tmp_path / "l")
    ledger.add(calls=1)
    other._database.execute("BEGIN EXCLUSIVE")  # stands for a full disk, too: SQLite refuses the write
    ledger.add(calls=1)
    other._database.execute("ROLLBACK")
    assert not ledger.last_day().known
    ledger.close()
    ledger.add(calls=1)
    assert ledger.last_day() == Spending(known=False)


def test_an_audit_that_could_not_be_written_counts_as_alarmed_and_no_other_does(tmp_path: Path) -> None:
    ledger, other = Ledger(tmp_path / "l"), Ledger(tmp_path / "l")
    assert ledger.observe("a", False, alpha=0.05, delta=0.05) is not None
    other._database.execute("BEGIN EXCLUSIVE")
    assert ledger.observe("a", True, alpha=0.05, delta=0.05) is None
    other._database.execute("ROLLBACK")
    assert (ledger.alarmed("a"), ledger.alarmed("b")) == (True, False)
    assert ledger.last_day().known  # nothing that was spent is missing


@pytest.mark.skipif(not Path("/dev/full").exists() or os.geteuid() != 0, reason="mounts a full file system")
def test_a_full_disk_makes_the_ledger_unknown(tmp_path: Path) -> None:
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "none", tmp_path], check=False, capture_output=True).returncode:
        pytest.skip("file systems cannot be mounted here")
    try:
        clock = FakeClock(now=1e9)
        ledger = Ledger(tmp_path / "l", clock=clock.clock)
        with (tmp_path / "filler").open("wb", buffering=0) as filler:
            filler.write(b"x" * 65536)
        for _ in range(2000):
            ledger.add(calls=1)
            clock.advance(60)
        assert not ledger.last_day().known
        ledger.close()
    finally:
        subprocess.run(["umount", tmp_path], check=True)


LIMITS = Budgets(cloud_bytes_per_day=1000, cloud_calls_per_day=5, cloud_usd_per_day=0.5)


@pytest.mark.parametrize(
    ("day", "label"),
    [
        (Spending(bytes_sent=1000), "egress-spent"),
        (Spending(calls=5), "calls-spent"),
        (Spending(usd=0.5), "money-spent"),
        (Spending(known=False), "ledger-failed"),
    ],
)
def test_a_spent_or_unknown_budget_closes_the_cloud_for_good(day: Spending, label: str) -> None:
    found = decide(Policy(budgets=LIMITS), FACTS, FINE, Spent(last_day=day))
    assert found.constrained == found.allowed == ("local",)
    assert label in found.labels
    fresh = decide(Policy(budgets=LIMITS), FACTS, FINE, Spent(last_day=Spending(4, 999, 0.49)))
    assert fresh.allowed == ("local", "cloud")
    assert decide(Policy(), FACTS, FINE, Spent(last_day=day)).allowed == ("local", "cloud")  # nobody asked for a limit


def test_the_edges_energy_is_a_wish_not_a_wall() -> None:
    policy = Policy(budgets=Budgets(local_joules_per_day=100))
    tired = Spent(last_day=Spending(joules=100))
    assert decide(policy, FACTS, FINE, tired).allowed == ("cloud",)
    assert decide(policy, FACTS, replace(FINE, link="down"), tired).allowed == ("local",)


def test_a_clients_spending_outlives_it(tmp_path: Path) -> None:
    with Client(ledger=tmp_path / "l") as client:
        client.ask("wake me up at six")
        assert client.ask("wake me up at six").decision.usd == 0.0
    assert Ledger(tmp_path / "l").last_day().calls == 0
