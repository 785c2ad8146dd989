from __future__ import annotations

import math
import os
import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fakes import FakeClock
from leanto import Client, Policy, Snapshot
from leanto import ledger as ledger_module
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


DAYS = st.integers(-40, 40)


@given(away=DAYS, spent_away=st.booleans())
def test_a_clock_that_jumps_away_and_back_forgets_nothing(away: int, spent_away: bool) -> None:
    clock = FakeClock(now=1e9)
    ledger = Ledger(clock=clock.clock)
    ledger.add(calls=5)
    clock.advance(away * 86_400)
    assert away > 0 or ledger.last_day().calls == 5
    if spent_away:
        ledger.add(calls=2)
    clock.advance(-away * 86_400 + 600)
    assert ledger.last_day().calls == (7 if spent_away else 5)


def test_a_ledger_that_is_opened_while_the_clock_is_wrong_keeps_what_counts_once_it_is_right(tmp_path: Path) -> None:
    clock = FakeClock(now=1e9)
    Ledger(tmp_path / "l", clock=clock.clock).add(calls=5)
    for days in (3, -3, -3, 3):
        clock.advance(days * 86_400)
        Ledger(tmp_path / "l", clock=clock.clock).add(joules=1.0)
    assert Ledger(tmp_path / "l", clock=clock.clock).last_day().calls == 5


@given(years=st.integers(1, 200))
def test_what_was_written_under_a_clock_far_ahead_counts_for_a_day(years: int) -> None:
    clock = FakeClock(now=1e9 + years * 365 * 86_400)
    ledger = Ledger(clock=clock.clock)
    ledger.add(calls=5)
    clock.now = 1e9
    assert ledger.last_day().calls == 5
    clock.advance(3600)
    ledger.add(calls=1)
    clock.advance(86_400 - 3600 + 60)
    assert ledger.last_day().calls == 1  # what was spent an hour later
    clock.advance(86_400)
    assert ledger.last_day().calls == 0


@pytest.mark.parametrize("nonsense", [math.nan, math.inf, -math.inf, 1e30, -1e30])
def test_a_clock_that_tells_no_time_makes_the_ledger_unknown_as_long_as_it_does(nonsense: float) -> None:
    clock = FakeClock(now=1e9)
    ledger = Ledger(clock=clock.clock)
    clock.now = nonsense
    ledger.add(calls=1)
    assert ledger.last_day() == Spending(known=False)
    clock.now = 1e9
    assert ledger.last_day() == Spending(1)


@settings(max_examples=60)
@given(steps=st.lists(st.tuples(st.integers(-3000, 3000), st.integers(0, 3)), max_size=20))
def test_whatever_the_clock_does_what_was_spent_while_it_stands_still_counts(steps: list[tuple[int, int]]) -> None:
    clock = FakeClock(now=1e9)
    ledger = Ledger(clock=clock.clock)
    for minutes, calls in steps:
        clock.advance(60 * minutes)
        before = ledger.last_day().calls
        ledger.add(calls=calls)
        assert ledger.last_day().calls == before + calls


def test_only_the_oldest_rows_by_order_of_writing_are_deleted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ledger_module, "KEPT_ROWS", 3)
    clock = FakeClock(now=1e9)
    ledger = Ledger(clock=clock.clock)
    for _ in range(5):
        ledger.add(calls=1)
        clock.advance(60)
    assert ledger.last_day().calls == 3


@pytest.mark.skipif(sys.platform == "win32", reason="no file modes")
def test_a_ledger_is_its_owners_alone(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path / "l")
    ledger.add(calls=1)
    assert {path.stat().st_mode & 0o777 for path in tmp_path.iterdir()} == {0o600}


BUYER = """
import sys
from leanto.ledger import Ledger
ledger = Ledger(sys.argv[1])
sys.stdin.readline()
bought = 0
for _ in range(40):
    day, entry = ledger.reserve(lambda day: day.known and day.calls < 50 and day.usd < 20, bytes_sent=10, usd=0.25)
    if entry is not None:
        bought += 1
        ledger.add(usd=0.25, entry=entry)
print(bought)
"""


def test_processes_that_reserve_at_once_never_spend_more_than_there_is(tmp_path: Path) -> None:
    Ledger(tmp_path / "l").close()
    buyers = [
        subprocess.Popen([sys.executable, "-c", BUYER, str(tmp_path / "l")], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        for _ in range(4)
    ]
    bought = sum(int(buyer.communicate("go\n", timeout=60)[0]) for buyer in buyers)
    found = Ledger(tmp_path / "l").last_day()
    assert (found.calls, found.bytes_sent, found.usd) == (bought, 10 * bought, 0.5 * bought)
    assert found.usd < 20 + 4 * 0.5  # none began once it was spent, and each of four may have had one on the way
    assert bought >= 38


def test_a_reservation_that_is_refused_leaves_no_trace_and_one_that_is_settled_counts_once(tmp_path: Path) -> None:
    clock = FakeClock(now=1e9)
    ledger = Ledger(tmp_path / "l", clock=clock.clock)
    assert ledger.reserve(lambda day: False, bytes_sent=10) == (Spending(), None)
    _, entry = ledger.reserve(lambda day: day == Spending(), bytes_sent=1000, usd=1.0)
    clock.advance(120)
    ledger.add(bytes_sent=-900, usd=-0.5, entry=entry)
    ledger.add(bytes_sent=7)
    assert ledger.last_day() == Spending(1, 107, 0.5)
    clock.advance(60 * WINDOW_MINUTES - 120)
    assert ledger.last_day() == Spending(0, 7)  # the correction went with what it corrects


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


def test_a_ledger_is_unknown_until_what_was_spent_could_be_written(tmp_path: Path) -> None:
    ledger, other = Ledger(tmp_path / "l"), Ledger(tmp_path / "l")
    ledger.add(calls=1)
    other._database.execute("BEGIN EXCLUSIVE")
    ledger.add(calls=1)
    assert ledger.reserve(lambda day: day.known) == (Spending(known=False), None)
    assert not ledger.last_day().known
    other._database.execute("ROLLBACK")
    assert ledger.last_day() == other.last_day() == Spending(2)
    ledger.close()
    ledger.add(calls=1)
    assert ledger.last_day() == Spending(known=False)


@pytest.mark.parametrize("nonsense", [math.nan, math.inf])
def test_an_amount_that_is_no_number_makes_the_ledger_unknown(nonsense: float) -> None:
    ledger = Ledger()
    ledger.add(joules=nonsense)
    assert ledger.last_day() == Spending(known=False)


FULL_DISK = """
import os, resource, signal, sys
from leanto.ledger import Ledger, Spending
ledger = Ledger(sys.argv[1])
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
def full(yes):
    resource.setrlimit(resource.RLIMIT_FSIZE, (os.path.getsize(sys.argv[1] + "-wal") if yes else -1, -1))
day, entry = ledger.reserve(lambda day: True, bytes_sent=3000, usd=5.0)
full(True)
ledger.add(bytes_sent=-2900, usd=-4.0, entry=entry)
assert not ledger.last_day().known
assert ledger.reserve(lambda day: day.known) == (Spending(known=False), None)
if sys.argv[2] == "room again":
    full(False)
    assert ledger.last_day() == Spending(1, 100, 1.0), ledger.last_day()
ledger.close()
"""


@pytest.mark.skipif(sys.platform == "win32", reason="no RLIMIT_FSIZE")
@pytest.mark.parametrize(("then", "left"), [("room again", Spending(1, 100, 1.0)), ("full for good", Spending(1, 3000, 5.0))])
def test_a_full_disk_makes_the_ledger_unknown_and_a_restart_finds_no_less_than_was_spent(tmp_path: Path, then: str, left: Spending) -> None:
    done = subprocess.run(
        [sys.executable, "-c", FULL_DISK, str(tmp_path / "l"), then], capture_output=True, text=True, check=False, timeout=60
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert Ledger(tmp_path / "l").last_day() == left


def test_an_audit_that_could_not_be_written_counts_as_alarmed_and_no_other_does(tmp_path: Path) -> None:
    ledger, other = Ledger(tmp_path / "l"), Ledger(tmp_path / "l")
    assert ledger.observe("a", False, alpha=0.05, delta=0.05) is not None
    other._database.execute("BEGIN EXCLUSIVE")
    assert ledger.observe("a", True, alpha=0.05, delta=0.05) is None
    other._database.execute("ROLLBACK")
    assert (ledger.alarmed("a"), ledger.alarmed("b")) == (True, False)
    assert ledger.last_day().known  # nothing that was spent is missing


@pytest.mark.skipif(not Path("/dev/full").exists() or os.geteuid() != 0, reason="mounts a full file system")
def test_on_a_full_disk_the_ledger_is_unknown_or_complete(tmp_path: Path) -> None:
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=128k", "none", tmp_path], check=False, capture_output=True).returncode:
        pytest.skip("file systems cannot be mounted here")
    clock = FakeClock(now=1e9)
    ledger = Ledger(tmp_path / "l", clock=clock.clock)
    try:
        with (tmp_path / "filler").open("wb", buffering=0) as filler:
            filler.write(b"x" * 131072)
        found = []
        for _ in range(WINDOW_MINUTES):
            ledger.add(calls=1)
            found.append(ledger.last_day())
            clock.advance(60)
        assert any(not day.known for day in found)
        assert all(day.calls == i for i, day in enumerate(found, 1) if day.known)
    finally:
        ledger.close()
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
