"""`leanto-cloud issuer rotate|keys|account|serve`: options in, exit code out."""

from __future__ import annotations

import argparse
import asyncio
import time
from pathlib import Path
from typing import Any

from leanto_cloud import hardening
from leanto_cloud.http_server import Answering
from leanto_cloud.http_server.command import add_listening, serve
from leanto_cloud.tokens.accounts import Accounts
from leanto_cloud.tokens.issuer import Issuer
from leanto_cloud.tokens.keys import KeyFile, read_keys, write_keys

DAY_S = 86_400


def add(commands: Any) -> None:
    """Add the commands."""
    issuer = commands.add_parser("issuer", help="one-time tokens").add_subparsers(required=True, metavar="COMMAND")
    rotate = issuer.add_parser("rotate", help="make a new key", description="Sign with a new key from now on; older ones go on counting.")
    rotate.add_argument("--name", required=True, help="the issuer's name, such as issuer.example")
    rotate.add_argument("--days", type=int, default=90, help="how long its tokens count (default: 90)")
    rotate.set_defaults(run=_rotate)
    keys = issuer.add_parser("keys", help="print the public keys", description="Print the directory that `leanto-cloud serve` takes.")
    keys.set_defaults(run=_print_keys)
    account = issuer.add_parser("account", help="open an account", description="Print a new account's key, which is not kept.")
    account.add_argument("--tokens", type=int, required=True, metavar="N", help="how many tokens it may have")
    account.set_defaults(run=_open_account)
    sign = issuer.add_parser("serve", help="give tokens out", description="Sign tokens for accounts until SIGTERM or SIGINT.")
    add_listening(sign)
    sign.set_defaults(run=_serve)
    for parser in (rotate, keys, sign):
        parser.add_argument("--keys", type=Path, required=True, metavar="FILE", help="the private keys, mode 0600")
    for parser in (account, sign):
        parser.add_argument("--accounts", type=Path, required=True, metavar="FILE", help="the accounts (SQLite), made if missing")


def _rotate(options: argparse.Namespace) -> int:
    keys = read_keys(options.keys) if options.keys.exists() else KeyFile(options.name, ())
    write_keys(options.keys, KeyFile(options.name, keys.keys).rotated(time.time(), options.days * DAY_S))
    return 0


def _print_keys(options: argparse.Namespace) -> int:
    print(read_keys(options.keys).directory.decode(), end="")
    return 0


def _open_account(options: argparse.Namespace) -> int:
    accounts = Accounts(options.accounts)
    print(accounts.open(options.tokens))
    accounts.close()
    return 0


def _serve(options: argparse.Namespace) -> int:
    hardening.settle()
    keys, accounts = read_keys(options.keys), Accounts(options.accounts)
    try:
        return asyncio.run(serve(Answering(Issuer(keys, accounts.charge, time.time).respond), options, keys.issuer))
    finally:
        accounts.close()
