"""What must outlive a restart: calls, sealed bytes, money and joules of the last day, and the state of every audit. In a SQLite file it
survives crashes and may be shared.

A call is written down before it is made. Totals are by the minute; a clock that jumps back forgets nothing. Knows nothing of budgets.
"""

from __future__ import annotations

import json
import sqlite3
import threading
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from leanto.certificates.audit import Audit, from_dict, observe
from leanto.clock import Clock
from leanto.errors import OutputError

WINDOW_MINUTES = 24 * 60
BUSY_S = 0.2  # to wait for another process that writes


@dataclass(frozen=True, slots=True)
class Spending:
    """Sums. `known` is false where the file could not be read or written: whatever depends on it must assume the worst."""

    calls: int = 0
    bytes_sent: int = 0
    usd: float = 0.0
    joules: float = 0.0
    known: bool = True


class Ledger:
    """The file at `path`, made if it is missing; None keeps it in memory. Thread-safe. Raises OutputError where it cannot be opened."""

    def __init__(self, path: str | Path | None = None, *, clock: Clock | None = None) -> None:
        self._clock = clock or Clock()
        self._lock = threading.Lock()
        self._lost = False  # a write failed: the sums are too low from here on
        self._lost_audits: set[str] = set()  # a write failed: what these would have found is not known
        try:
            self._database = sqlite3.connect(
                ":memory:" if path is None else path, timeout=BUSY_S, isolation_level=None, check_same_thread=False
            )
            with closing(self._database.cursor()) as cursor:
                cursor.execute("PRAGMA journal_mode = WAL")
                cursor.execute("PRAGMA synchronous = NORMAL")
                cursor.execute(
                    "CREATE TABLE IF NOT EXISTS spending (minute INTEGER PRIMARY KEY, calls INTEGER NOT NULL, bytes INTEGER NOT NULL,"
                    " usd REAL NOT NULL, joules REAL NOT NULL) STRICT"
                )
                cursor.execute("CREATE TABLE IF NOT EXISTS audit (name TEXT PRIMARY KEY, state TEXT NOT NULL) STRICT")
                cursor.execute("DELETE FROM spending WHERE minute <= ?", (self._minute() - 2 * WINDOW_MINUTES,))
        except sqlite3.Error as error:
            raise OutputError(f"{path}: the ledger cannot be opened: {error}", path=str(path)) from None

    def add(self, *, calls: int = 0, bytes_sent: int = 0, usd: float = 0.0, joules: float = 0.0) -> None:
        """Write it down. A failure makes the ledger unknown for good; it never raises."""
        if not (calls or bytes_sent or usd or joules):
            return
        try:
            with self._lock:
                self._database.execute(
                    "INSERT INTO spending VALUES (?, ?, ?, ?, ?) ON CONFLICT (minute) DO UPDATE SET calls = calls + excluded.calls,"
                    " bytes = bytes + excluded.bytes, usd = usd + excluded.usd, joules = joules + excluded.joules",
                    (self._minute(), calls, bytes_sent, usd, joules),
                )
        except (sqlite3.Error, OverflowError):
            self._lost = True

    def last_day(self) -> Spending:
        """The sums of the last 24 hours, and of times still to come by this clock. Never raises."""
        try:
            with self._lock:
                row = self._database.execute(
                    "SELECT coalesce(sum(calls), 0), coalesce(sum(bytes), 0), coalesce(sum(usd), 0.0), coalesce(sum(joules), 0.0)"
                    " FROM spending WHERE minute > ?",
                    (self._minute() - WINDOW_MINUTES,),
                ).fetchone()
        except (sqlite3.Error, OverflowError):
            return Spending(known=False)
        calls, bytes_sent, usd, joules = row
        return Spending(calls, bytes_sent, usd, joules, known=not self._lost)

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
        self._database.close()

    def _audit(self, name: str) -> Audit | None:
        row = self._database.execute("SELECT state FROM audit WHERE name = ?", (name,)).fetchone()
        return None if row is None else from_dict(json.loads(row[0]))

    def _minute(self) -> int:
        return int(self._clock.wall() // 60)
