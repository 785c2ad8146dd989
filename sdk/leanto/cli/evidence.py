"""`leanto evidence HOST:PORT`: what a node proves of itself, what that leaves unproven, and whom it rests on. It sends no prompt."""

from __future__ import annotations

import argparse
import asyncio
import json
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from leanto.cli.claims_table import claims_table
from leanto.cli.options import add_policy, read_policy
from leanto.errors import TargetError
from leanto.remote import RemoteLeg, RemoteTarget
from leanto.remote.configured import remote_target

if TYPE_CHECKING:
    from leanto_wire.claims import Claims


def add(commands: Any) -> None:
    """Add the command."""
    parser = commands.add_parser(
        "evidence", help="what a node proves, and what not", description="Get a node's evidence, verify it, and print its claims."
    )
    parser.add_argument("cloud", nargs="?", metavar="HOST:PORT", help="the node (default: the policy's)")
    add_policy(parser)
    parser.add_argument("--development-root", metavar="BASE64", help="pinned root of a development node")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Exit code 1 if the evidence is refused."""
    target = remote_target(read_policy(options).cloud)
    if target is None:
        raise TargetError("no node to ask: give HOST:PORT, or a policy with [targets.cloud]")
    claims = asyncio.run(_claims(target))
    print(json.dumps(_plain(claims), indent=1, ensure_ascii=False) if options.json else claims_table(target.address, claims))
    return 0


async def _claims(target: RemoteTarget) -> Claims:
    leg = RemoteLeg(target)
    try:
        return await leg.evidence()
    finally:
        await leg.close()


def _plain(claims: Claims) -> dict[str, Any]:
    return {
        "type": claims.evidence_type,
        "digest": claims.evidence_digest.hex(),
        "expires_s": claims.expires_s,
        "release": claims.release_digest.hex(),
        "model": claims.model_id,
        "claims": [asdict(claim) for claim in claims.claims],
    }
