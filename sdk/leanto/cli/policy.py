"""`leanto policy` works with policy files and decision logs; `leanto config show` says what is in force, and where it comes from."""

from __future__ import annotations

import argparse
import base64
import json
import os
import sys
from collections import Counter
from pathlib import Path
from typing import Any

from leanto.cli.certify import read_pairs
from leanto.cli.options import add_policy, add_report, read_policy
from leanto.clock import Clock
from leanto.errors import PolicyError
from leanto.policy import load_policy
from leanto.policy.claims import read_claim
from leanto.policy.logged import read_log
from leanto.policy.overrides import from_arguments, from_environment
from leanto.policy.reader import default_text, origins
from leanto.policy.replay import replay
from leanto.policy.source import sign_policy


def add(commands: Any) -> None:
    """Add both commands."""
    parser = commands.add_parser("policy", help="show, check, compare or sign a policy", description="Work with policy files.")
    actions = parser.add_subparsers(required=True, metavar="ACTION")
    show = actions.add_parser("show", help="the shipped policy, or a file as it is understood")
    show.add_argument("file", nargs="?", metavar="FILE", help="policy TOML; errors name file and line")
    show.set_defaults(run=run_show)
    check = actions.add_parser("check", help="whether a file is a policy, and signed if a key is given")
    check.add_argument("file", metavar="FILE")
    check.add_argument("--policy-key", metavar="BASE64", help="the public key that must have signed it")
    check.set_defaults(run=run_check)
    diff = actions.add_parser("diff", help="what another file would change; exit code 1 if anything")
    diff.add_argument("old", metavar="OLD")
    diff.add_argument("new", metavar="NEW")
    diff.set_defaults(run=run_diff)
    again = actions.add_parser("replay", help="another policy on a decision log: shares, times, energy, money, risk; spends no token")
    again.add_argument("log", metavar="LOG", help="JSONL that a client wrote")
    again.add_argument("--policy", required=True, metavar="FILE", help="the policy to try")
    again.add_argument(
        "--require",
        action="append",
        default=[],
        metavar="CLAIM",
        help='exit with code 1 unless, say, "p95_ms <= 1.1x" of before, or "risk_high < 0.05"',
    )
    again.add_argument("--json", action="store_true", help="print one JSON object")
    again.add_argument("--pairs", metavar="FILE", help="answers with known outcomes, as for `leanto certify`, for the report's curves")
    add_report(again)
    again.set_defaults(run=run_replay)
    sign = actions.add_parser("sign", help="write FILE.sig, and say which key checks it")
    sign.add_argument("file", metavar="FILE")
    sign.add_argument("--key", required=True, metavar="PEM", help="Ed25519 private key, as `openssl genpkey -algorithm ed25519` makes one")
    sign.set_defaults(run=run_sign)

    config = commands.add_parser("config", help="what is in force, and why", description="What is in force, and why.")
    config_actions = config.add_subparsers(required=True, metavar="ACTION")
    shown = config_actions.add_parser("show", help="every value of the policy in force")
    add_policy(shown)
    shown.add_argument("--origin", action="store_true", help="say where each value comes from: default, file and line, environment, --set")
    shown.set_defaults(run=run_config)


def run_show(options: argparse.Namespace) -> int:
    """The default as TOML, ready to be copied and changed; a file as JSON with every default filled in, and its hash."""
    if options.file is None:
        print(default_text(), end="")
    else:
        policy = load_policy(options.file)
        print(json.dumps({"hash": policy.hash, **policy.to_dict()}, indent=2))
    return 0


def run_check(options: argparse.Namespace) -> int:
    """The hash of a file that is fine; anything else is an error with its line."""
    policy = load_policy(options.file, key=options.policy_key)
    signed = " and signed by that key" if options.policy_key else ""
    print(f"{options.file}: fine{signed}; {len(policy.rules)} rules; hash {policy.hash}")
    return 0


def run_diff(options: argparse.Namespace) -> int:
    """One line for each value that differs."""
    old, new = (origins("", load_policy(file)) for file in (options.old, options.new))
    changed = [name for name in {**old, **new} if old.get(name, (None,))[0] != new.get(name, (None,))[0]]
    for name in changed:
        before, after = (json.dumps(values[name][0], ensure_ascii=False) if name in values else "absent" for values in (old, new))
        print(f"{name}: {before} → {after}")
    return 1 if changed else 0


def run_sign(options: argparse.Namespace) -> int:
    """The signature's path and the public key, as --policy-key wants it."""
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    try:
        key = load_pem_private_key(Path(options.key).read_bytes(), None)
    except OSError as error:
        raise PolicyError(f"cannot be read: {error.strerror or error}", file=options.key) from None
    except (TypeError, ValueError):
        raise PolicyError("is not a PEM private key without a password", file=options.key) from None
    if not isinstance(key, Ed25519PrivateKey):
        raise PolicyError("is not an Ed25519 key; make one: openssl genpkey -algorithm ed25519", file=options.key)
    signature = sign_policy(options.file, key)
    print(f"{signature}: signed; --policy-key {base64.b64encode(key.public_key().public_bytes_raw()).decode()}")
    return 0


def run_replay(options: argparse.Namespace) -> int:
    """Both columns, and every claim that does not hold."""
    log, skipped = read_log(options.log)
    claims = [read_claim(text) for text in options.require]
    policy = load_policy(options.policy)
    found = replay(log, policy, skipped=skipped, now=Clock().wall())
    before, after = found.before.to_dict(), found.after.to_dict()
    broken = [claim.text for claim in claims if not claim.holds(before, after)]
    if options.report:
        from leanto.report import replay_page, write

        task = Counter(line.facts.task for line in log).most_common(1)[0][0]
        pairs = read_pairs(options.pairs, task) if options.pairs else None
        write(replay_page(log, found, policy, (pairs.scores, pairs.cases) if pairs else None), options.report)
    if options.json:
        counts = {"moved": found.moved, "skipped": found.skipped, "unreplayable": found.unreplayable}
        print(json.dumps({"before": before, "after": after, **counts, "broken": broken}, indent=1))
    else:
        for name in before:
            print(f"{name:<13}{_figure(before[name]):>12}{_figure(after[name]):>12}")
        print(f"{found.moved} requests would go elsewhere; {found.after.estimated} costs are estimates; {found.skipped} lines skipped")
        for reason, count in found.unreplayable.items():
            print(f"{count} requests cannot be replayed, and are in neither column: {reason}")
    for text in broken:
        print(f"leanto: does not hold: {text}", file=sys.stderr)
    return 1 if broken else 0


def _figure(value: float | None) -> str:
    return "-" if value is None else f"{value:.4g}" if isinstance(value, float) else str(value)


def run_config(options: argparse.Namespace) -> int:
    """A line for each value, by its dotted name."""
    policy = read_policy(options)
    source = default_text() if policy.origin == "default" else Path(policy.origin).read_text(encoding="utf-8")
    overrides = (*from_environment(os.environ), *from_arguments(options.set))
    found = origins(source, policy, overrides)
    width = max(map(len, found))
    for name, (value, origin) in found.items():
        print(f"{name:<{width}}  {json.dumps(value, ensure_ascii=False)}" + (f"  ({origin})" if options.origin else ""))
    print(f"{'hash':<{width}}  {policy.hash}")
    return 0
