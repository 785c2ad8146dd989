"""Options that several commands share: what a client is made from, and the prompt."""

from __future__ import annotations

import argparse
import os
import sys
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from leanto.cli.claims_table import claims_table
from leanto.client import Client
from leanto.errors import PromptRefused, TargetError
from leanto.policy import Policy
from leanto.policy.fields import address, public_key
from leanto.policy.overrides import from_arguments
from leanto.policy.schema import CloudTarget
from leanto.policy.source import policy_of
from leanto.request import MAX_PROMPT_CHARS

if TYPE_CHECKING:
    from leanto_wire.claims import Claims


def add_client(parser: argparse.ArgumentParser) -> None:
    """--model, --adapter, the policy's, --cloud, --development-root, --simulate, --log, --ledger, --energy."""
    parser.add_argument("--model", metavar="PATH", help="local model: artifact or Hugging Face folder (default: embedded)")
    parser.add_argument("--adapter", metavar="FILE", help="what the model learnt on this device: see `leanto adapt`")
    add_policy(parser)
    parser.add_argument("--cloud", metavar="HOST:PORT", help="private compute node to lean on (default: the policy's)")
    parser.add_argument("--development-root", metavar="BASE64", help="pinned root of a development node")
    parser.add_argument("--simulate", metavar="SIGNALS", help='rehearse a device, such as "battery=9%%,link=down"')
    parser.add_argument("--log", metavar="FILE", help="append each decision to this JSONL file")
    parser.add_argument("--energy", metavar="FILE", help="joules a token of this model, by `leanto bench energy` (default: the user's)")
    parser.add_argument(
        "--ledger", metavar="FILE", help="what was spent in the last day (default: the user's, where the policy has a budget)"
    )


def add_policy(parser: argparse.ArgumentParser) -> None:
    """--policy, --policy-key, --set."""
    parser.add_argument("--policy", metavar="FILE", help="policy TOML (default: LEANTO_POLICY, or `leanto policy show`)")
    parser.add_argument("--policy-key", metavar="BASE64", help="the public key that must have signed it (default: LEANTO_POLICY_KEY)")
    parser.add_argument("--set", action="append", default=[], metavar="NAME=VALUE", help="another value, such as budgets.deadline_ms=5000")


def add_request(parser: argparse.ArgumentParser) -> None:
    """The prompt, --task, --private and --privacy."""
    parser.add_argument("prompt", help='what to answer; "-" reads it from standard input')
    parser.add_argument("--task", choices=("call", "text"), help="turn it into a call, or continue it (default: call, if the model can)")
    parser.add_argument("--private", action="store_true", help="never let it leave this device")
    parser.add_argument("--privacy", metavar="CLASS", help="privacy class of the policy")


def add_report(parser: argparse.ArgumentParser) -> None:
    """--report."""
    about = "draw it: as one page into FILE.html, or into a folder with each chart as SVG (and PNG, with leanto[plots])"
    parser.add_argument("--report", metavar="PATH", help=about)


def open_client(options: argparse.Namespace) -> Client:
    """The client that the options describe. What its node proves is shown on stderr before anything is sealed to it."""
    policy = read_policy(options)
    address = policy.cloud.address if policy.cloud else ""

    def show(claims: Claims) -> None:
        print(claims_table(address, claims), end="\n\n", file=sys.stderr)

    named = {name: getattr(options, name) for name in ("model", "adapter", "simulate", "log", "ledger", "energy")}
    return Client(policy=policy, on_evidence=show, **named)


def read_policy(options: argparse.Namespace) -> Policy:
    """The policy, with the cloud target of the command line in it."""
    policy = policy_of(options.policy, options.policy_key, os.environ, from_arguments(options.set)).current()
    cloud, root = getattr(options, "cloud", None), getattr(options, "development_root", None)
    if cloud is None:
        if root is not None:
            raise TargetError("--development-root belongs to a node: give --cloud HOST:PORT too")
        return policy
    if policy.cloud is not None and policy.cloud.evidence is not None:
        if root is not None:
            raise TargetError(
                f"--development-root: {policy.origin} asks for evidence of the node's hardware, which no development root replaces"
            )
        return replace(policy, cloud=replace(policy.cloud, address=_address(cloud)))
    try:
        shape = policy.cloud or CloudTarget()  # another node, but no weaker padding
        target = CloudTarget(
            address(cloud),
            public_key(root) if root else None,
            padding=shape.padding,
            cadence_ms=shape.cadence_ms,
            cadence_frames=shape.cadence_frames,
        )
    except ValueError as error:
        raise TargetError(f"--cloud/--development-root: {error}") from None
    return replace(policy, cloud=target)


def _address(cloud: str) -> str:
    try:
        return str(address(cloud))
    except ValueError as error:
        raise TargetError(f"--cloud: {error}") from None


def request_arguments(options: argparse.Namespace) -> dict[str, Any]:
    """The keywords of Client.ask that the options give."""
    return {"task": options.task, "private": options.private, "privacy": options.privacy}


def read_prompt(options: argparse.Namespace) -> str:
    """The prompt, from the command line or from standard input. Raises PromptRefused if it is not UTF-8."""
    if options.prompt != "-":
        return str(options.prompt)
    limit = 4 * MAX_PROMPT_CHARS  # UTF-8 takes at most four bytes a character
    data = sys.stdin.buffer.read(limit + 1)
    if len(data) > limit:
        raise PromptRefused(f"standard input is too long for a prompt: shorten it to {MAX_PROMPT_CHARS} characters")
    try:
        return data.decode("utf-8").rstrip("\r\n")
    except UnicodeDecodeError as error:
        raise PromptRefused(f"standard input is not valid UTF-8 at byte {error.start + 1}: send text") from None
