"""`leanto doctor`: what this machine has, can read and can run. It measures nothing and sends no prompt."""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import platform
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from importlib import metadata
from typing import Any, Literal

from leanto import __version__
from leanto.cli.options import add_client, read_policy
from leanto.errors import LeantoError
from leanto.local.run import open_model
from leanto.remote import RemoteLeg, RemoteTarget
from leanto.remote.configured import remote_target
from leanto.signals import DEVICE, Sensors, simulate
from leanto.signals.energy import JOULES_PER_CPU_SECOND, best_meter

PACKAGES = ("numpy", "tokenizers", "safetensors", "cryptography", "grpcio", "protobuf", "psutil", "rich")


@dataclass(frozen=True, slots=True)
class Finding:
    """One line: "fine", "absent" (leanto does without), or "broken" (something to put right)."""

    name: str
    state: Literal["fine", "absent", "broken"]
    detail: str


_METERS = {
    "rapl": "package energy (RAPL)",
    "battery": "what leaves the battery",
    "estimate": f"no readable counter: an estimate, {JOULES_PER_CPU_SECOND:g} J for each CPU second unless `leanto bench energy` was run",
}


def add(commands: Any) -> None:
    """Add the command."""
    parser = commands.add_parser("doctor", help="check this machine", description="Check packages, kernels, signals, models and the cloud.")
    add_client(parser)
    parser.add_argument("--json", action="store_true", help="one JSON object a line")
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Exit code 1 if anything is broken."""
    broken = False
    for finding in findings(options):
        broken |= finding.state == "broken"
        mark = {"fine": "ok", "absent": "--", "broken": "!!"}[finding.state]
        line = json.dumps(asdict(finding), ensure_ascii=False) if options.json else f"{mark}  {finding.name:<22} {finding.detail}"
        print(line, flush=True)
    return 1 if broken else 0


def findings(options: argparse.Namespace) -> Iterator[Finding]:
    """Everything, the cheap first."""
    policy = read_policy(options)
    yield Finding("leanto", "fine", f"{__version__} on Python {platform.python_version()}, {platform.system()} {platform.machine()}")
    yield from map(_package, PACKAGES)
    yield _kernels()
    yield from _signals(options.simulate)
    meter = best_meter().source
    yield Finding("energy", "absent" if meter == "estimate" else "fine", _METERS[meter])
    yield Finding("policy", "fine", f"{policy.origin} {policy.hash[:12]}")
    yield from _models(options.model, options.adapter)
    yield _cloud(remote_target(policy.cloud))


def _package(name: str) -> Finding:
    try:
        return Finding(name, "fine", metadata.version(name))
    except metadata.PackageNotFoundError:
        return Finding(name, "broken", f"not installed; pip install {name}")


def _kernels() -> Finding:
    try:
        import leanto_kernels

        return Finding("kernels", "fine", f"{leanto_kernels.isa()}, {os.cpu_count()} logical CPUs")
    except (ImportError, OSError) as error:
        return Finding("kernels", "broken", f"the native module does not load ({error}); install leanto again")


def _signals(rehearsal: str | None) -> Iterator[Finding]:
    sources = (*DEVICE, simulate(rehearsal)) if rehearsal else DEVICE
    for name, value in Sensors(sources).read().to_dict().items():
        if name != "taken_at":
            known = value not in (None, "unknown")
            yield Finding(name, "fine" if known else "absent", str(value) if known else "no source on this machine: unknown")


def _models(path: str | None, adapter: str | None) -> Iterator[Finding]:
    import leanto_edge

    wanted = {"model": path} if path else {"edge model": str(leanto_edge.embedded()), "cloud model": str(leanto_edge.embedded_large())}
    for name, place in wanted.items():
        try:
            info = open_model(place, adapter=adapter if name != "cloud model" else None).info
        except LeantoError as error:
            yield Finding(name, "broken", str(error))
        else:
            size = f"{info.parameters} parameters, {info.stored_bytes} bytes, {info.bits_per_weight:.2f} bits per weight"
            yield Finding(name, "fine", f"{info.name}: {size}, build {info.build_hash[:12]} verified, tasks {', '.join(info.tasks)}")


def _cloud(target: RemoteTarget | None) -> Finding:
    if target is None:
        return Finding("cloud", "absent", "no target configured: nothing ever leaves this device")
    try:
        return Finding("cloud", "fine", asyncio.run(_evidence(target)))
    except LeantoError as error:
        return Finding("cloud", "broken", str(error))


async def _evidence(target: RemoteTarget) -> str:
    leg = RemoteLeg(target)
    try:
        claims = await leg.evidence()
    finally:
        await leg.close()
    proven = "; ".join(f"{claim.name}: {claim.proves}" for claim in claims.claims)
    return f"{target.address}: {claims.model_id}, {claims.evidence_type} evidence ({proven})"
