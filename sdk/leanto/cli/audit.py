"""`leanto audit`: how the audits of certified answers stand. The work is leanto.certificates.audit; the state is in the ledger."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from leanto.errors import UserError
from leanto.state import state_file


def add(commands: Any) -> None:
    """Add the command."""
    about = "Show every audit in a ledger: how many answers were asked again, how many differed, and whether the promise still stands."
    parser = commands.add_parser("audit", help="whether certificates keep their promise", description=about)
    parser.add_argument("ledger", metavar="LEDGER", nargs="?", help='the file of Client(ledger="FILE") (default: the user\'s own)')
    parser.add_argument("--json", action="store_true", help="the audits as JSON")
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Exit code 0 while every promise stands, 1 after an alarm."""
    from leanto.ledger import FILE, Ledger

    path = Path(options.ledger or state_file(FILE))
    if not path.is_file():
        raise UserError(f"{path}: no ledger is there; a client writes one with ledger=FILE")
    ledger = Ledger(path)
    try:
        audits = ledger.audits()
    finally:
        ledger.close()
    if options.json:
        print(json.dumps({name: {**audit.to_dict(), "e_value": audit.e_value} for name, audit in audits.items()}))
    elif not audits:
        print("no audits yet")
    else:
        for name, audit in audits.items():
            state = "ALARM" if audit.alarmed else "stands"
            bet = f"e-value {audit.e_value:.2f}, alarm at {1 / audit.delta:.0f}"
            print(f"{state:<7} {name}: {audit.worse} of {audit.audited} differ, at most {audit.alpha:.2%} promised; {bet}")
    return int(any(audit.alarmed for audit in audits.values()))
