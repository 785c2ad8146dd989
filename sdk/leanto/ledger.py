"""What must outlive a restart: calls, sealed bytes, money and joules of the last day, and the state of every audit. In a SQLite file it
survives crashes and may be shared.

What a call may cost is reserved before it is made, in the transaction that judges it, and settled afterwards. What could not be written
is kept until it can be. Sums are by the minute; no clock makes them forget, or count for ever (`_COUNTED`). Knows nothing of budgets.
"""

from __future__ import annotations

import json
import math
import os
import sqlite3
import threading
from collections.abc import Callable
from contextlib import closing, suppress
from dataclasses import dataclass
from pathlib import Path

from leanto.certificates.audit import Audit, from_dict, observe
from leanto.clock import Clock
from leanto.errors import OutputError

FILE = "ledger.db"  # in the user's state folder, where no other is named
WINDOW_MINUTES = 24 * 60
KEPT_ROWS = 20_000  # the last to be written, whatever their minutes say: a clock that jumps must not be able to delete
BUSY_S = 0.2  # to wait for another process that writes

# A row counts for a day from its minute on. One that lies ahead of the clock counts too, for a day from when it was `seen` there; then the
# clock was wrong when the row was written, not now.
_COUNTED = "minute > :now - :window AND (minute <= :now OR seen > :now - :window)"
_FAULTS = (sqlite3.Error, OverflowError, ValueError)  # a minute that is no number, or no 64-bit one
_Amount = tuple[int, int, float, float]  # calls, bytes, US dollars, joules


@dataclass(frozen=True, slots=True)
class Spending:
    """Sums. `known` is false where the file could not be read or written: whatever depends on it must assume the worst."""

    calls: int = 0
    bytes_sent: int = 0
    usd: float = 0.0
    joules: float = 0.0
    known: bool = True


class Ledger:
    """The file at `path`, made for its owner alone if it is missing; None keeps it in memory. Thread-safe. Raises OutputError where it
    cannot be opened."""

    def __init__(self, path: str | Path | None = None, *, clock: Clock | None = None) -> None:
        self._clock = clock or Clock()
        self._lock = threading.Lock()
        self._lost = False  # something that was spent is missing for good
        self._lost_audits: set[str] = set()  # a write failed: what these would have found is not known
        self._unwritten: dict[int | None, _Amount] = {}  # by the row that it corrects
        self._database = _opened(path)

    def reserve(self, fits: Callable[[Spending], bool], *, bytes_sent: int = 0, usd: float = 0.0) -> tuple[Spending, int | None]:
        """Write one more call down, if what was spent so far `fits`; no other process comes in between.

        Returns that spending, and the entry to settle. Never raises: where nothing can be read or written, the spending is unknown, and
        the call is written down later if that fits.
        """
        amount = (1, bytes_sent, usd, 0.0)
        with self._lock:
            try:
                with self._database:
                    self._database.execute("BEGIN IMMEDIATE")
                    self._write_late()
                    day = self._day()
                    entry = self._enter(amount) if fits(day) else None
                self._unwritten.clear()
            except _FAULTS:
                day, entry = Spending(known=False), None
                if fits(day):
                    self._keep(None, amount)
        return day, entry

    def add(self, *, calls: int = 0, bytes_sent: int = 0, usd: float = 0.0, joules: float = 0.0, entry: int | None = None) -> None:
        """Write it down, as a correction of `entry` if one is given. Until it is written the spending is unknown; it never raises."""
        amount = (calls, bytes_sent, usd, joules)
        if not any(amount):
            return
        with self._lock:
            if not all(map(math.isfinite, amount)):
                self._lost = True
                return
            self._keep(entry, amount)
            with suppress(*_FAULTS):
                self._write()

    def last_day(self) -> Spending:
        """The sums of the last 24 hours. Never raises."""
        with self._lock:
            try:
                if self._unwritten:
                    self._write()
                day = self._day()
                with suppress(sqlite3.Error):
                    self._see_rows_ahead()
            except _FAULTS:
                return Spending(known=False)
        return day

    def move_to(self, path: str | Path) -> None:
        """From here on in that file, what was spent so far included. Raises OutputError where it cannot be opened."""
        day, database = self.last_day(), _opened(path)
        with self._lock:
            self._database.close()
            self._database = database
        self.add(calls=day.calls, bytes_sent=day.bytes_sent, usd=day.usd, joules=day.joules)

    def observe(self, name: str, worse: bool, *, alpha: float, delta: float) -> Audit | None:
        """Write down one more audited answer, and return the state after it; None where that failed, and the audit counts as alarmed."""
        try:
            with self._lock, self._database:
                self._database.execute("BEGIN IMMEDIATE")
                after = observe(self._audit(name) or Audit(alpha, delta), worse)
                self._database.execute(
                    "INSERT INTO audit VALUES (?, ?) ON CONFLICT (name) DO UPDATE SET state = excluded.state",
                    (name, json.dumps(after.to_dict())),
                )
        except (sqlite3.Error, ValueError):
            self._lost_audits.add(name)
            return None
        return after

    def alarmed(self, name: str) -> bool:
        """Whether that audit raised its alarm, can no longer be read, or could not be written once. Never raises."""
        if name in self._lost_audits:
            return True
        try:
            with self._lock:
                state = self._audit(name)
        except (sqlite3.Error, ValueError):
            return True
        return state is not None and state.alarmed

    def audits(self) -> dict[str, Audit]:
        """Every audit by its name. Raises OutputError where they cannot be read."""
        try:
            with self._lock:
                rows = self._database.execute("SELECT name, state FROM audit ORDER BY name").fetchall()
            return {name: from_dict(json.loads(state)) for name, state in rows}
        except (sqlite3.Error, ValueError) as error:
            raise OutputError(f"the ledger's audits cannot be read: {error}") from None

    def close(self) -> None:
        """Close the file. May be called twice."""
        with self._lock:
            with suppress(*_FAULTS):
                self._write()
            self._database.close()

    def _audit(self, name: str) -> Audit | None:
        row = self._database.execute("SELECT state FROM audit WHERE name = ?", (name,)).fetchone()
        return None if row is None else from_dict(json.loads(row[0]))

    def _write(self) -> None:
        with self._database:
            self._database.execute("BEGIN IMMEDIATE")
            self._write_late()
        self._unwritten.clear()

    def _write_late(self) -> None:
        for entry, amount in self._unwritten.items():
            if entry is None or not self._correct(entry, amount):
                self._enter(amount)

    def _keep(self, entry: int | None, amount: _Amount) -> None:
        calls, bytes_sent, usd, joules = self._unwritten.get(entry, (0, 0, 0.0, 0.0))
        self._unwritten[entry] = (calls + amount[0], bytes_sent + amount[1], usd + amount[2], joules + amount[3])

    def _day(self) -> Spending:
        calls, bytes_sent, usd, joules = self._database.execute(
            "SELECT coalesce(sum(calls), 0), coalesce(sum(bytes), 0), coalesce(sum(usd), 0.0), coalesce(sum(joules), 0.0)"
            f" FROM spent WHERE {_COUNTED}",
            {"now": self._minute(), "window": WINDOW_MINUTES},
        ).fetchone()
        return Spending(calls, bytes_sent, usd, joules, known=not self._lost)

    def _enter(self, amount: _Amount) -> int:
        """Under the latest minute that counts: where the clock was set back, what follows must count as long as what was before."""
        now = self._minute()
        latest = self._database.execute(
            f"SELECT minute FROM spent WHERE {_COUNTED} ORDER BY minute DESC LIMIT 1", {"now": now, "window": WINDOW_MINUTES}
        ).fetchone()
        minute = max(now, latest[0]) if latest else now
        ((entry,),) = self._database.execute(
            "INSERT INTO spent (minute, seen, calls, bytes, usd, joules) VALUES (?, ?, ?, ?, ?, ?) ON CONFLICT (minute, seen) DO UPDATE SET"
            " calls = calls + excluded.calls, bytes = bytes + excluded.bytes, usd = usd + excluded.usd, joules = joules + excluded.joules"
            " RETURNING entry",
            (minute, now, *amount),
        ).fetchall()
        self._database.execute("DELETE FROM spent WHERE entry <= ?", (entry - KEPT_ROWS,))
        return int(entry)

    def _correct(self, entry: int, amount: _Amount) -> bool:
        statement = "UPDATE spent SET calls = calls + ?, bytes = bytes + ?, usd = usd + ?, joules = joules + ? WHERE entry = ?"
        return bool(self._database.execute(statement, (*amount, entry)).rowcount)

    def _see_rows_ahead(self) -> None:
        """The clock was set back, it seems: from now on the rows ahead of it have a day."""
        ahead, now = "minute > :now AND seen > :now", {"now": self._minute()}
        if self._database.execute(f"SELECT 1 FROM spent WHERE {ahead}", now).fetchone():
            self._database.execute(f"UPDATE OR IGNORE spent SET seen = :now WHERE {ahead}", now)

    def _minute(self) -> int:
        return int(self._clock.wall() // 60)


def _opened(path: str | Path | None) -> sqlite3.Connection:
    try:
        if path is not None:
            os.close(os.open(path, os.O_RDWR | os.O_CREAT, 0o600))
        database = sqlite3.connect(":memory:" if path is None else path, timeout=BUSY_S, isolation_level=None, check_same_thread=False)
        with closing(database.cursor()) as cursor:
            cursor.execute("PRAGMA journal_mode = WAL")
            cursor.execute("PRAGMA synchronous = NORMAL")
            cursor.execute(
                "CREATE TABLE IF NOT EXISTS spent (entry INTEGER PRIMARY KEY, minute INTEGER NOT NULL, seen INTEGER NOT NULL,"
                " calls INTEGER NOT NULL, bytes INTEGER NOT NULL, usd REAL NOT NULL, joules REAL NOT NULL, UNIQUE (minute, seen)) STRICT"
            )
            cursor.execute("CREATE TABLE IF NOT EXISTS audit (name TEXT PRIMARY KEY, state TEXT NOT NULL) STRICT")
    except (sqlite3.Error, OSError) as error:
        raise OutputError(f"{path}: the ledger cannot be opened: {error}", path=str(path)) from None
    return database
