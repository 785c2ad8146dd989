"""From what a policy says of the cloud to a leg that can be used. Imports no gRPC: the first call does."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict
from typing import TYPE_CHECKING

from leanto.clock import Clock
from leanto.errors import TargetError
from leanto.policy.evidence import HardwareEvidence, hardware_policy
from leanto.policy.schema import CloudTarget
from leanto.remote.node import RemoteLeg
from leanto.remote.target import Relay, ReleaseLog, RemoteTarget, Tls, TokenSource, dial_target, is_loopback

if TYPE_CHECKING:
    from leanto.remote.leg import CloudLeg
    from leanto_wire.claims import Claims
    from leanto_wire.policies import HardwarePolicy


def choose_cloud(given: RemoteTarget | CloudLeg | None, configured: CloudTarget | None) -> RemoteTarget | CloudLeg | None:
    """The cloud given in code, or the one of the policy, or none. Raises TargetError if it cannot be used, and for a target without
    evidence of its hardware where the policy asks for some.
    """
    if isinstance(given, RemoteTarget):
        if configured is not None and configured.evidence is not None and given.evidence is None:
            raise TargetError(f"{given.address}: the policy asks for evidence of the node's hardware; the target given in code does not")
        dial_target(given)
    return given if given is not None else remote_target(configured)


def remote_target(cloud: CloudTarget | None) -> RemoteTarget | None:
    """The target to dial; TLS for every address but a loopback one. Raises TargetError if it cannot be used."""
    if cloud is None:
        return None
    files = {name: getattr(cloud, f"tls_{name}") for name in ("root_certificates", "client_certificate", "client_key")}
    plain = not any(files.values()) and _is_loopback(cloud.address)
    log = ReleaseLog(**asdict(cloud.log)) if cloud.log else None
    target = RemoteTarget(
        cloud.address,
        cloud.development_root,
        None if plain else Tls(**files),
        padding=cloud.padding,
        cadence_ms=cloud.cadence_ms,
        cadence_frames=cloud.cadence_frames,
        suites=cloud.suites,
        log=log,
        tokens=TokenSource(**asdict(cloud.tokens)) if cloud.tokens else None,
        relay=Relay(**asdict(cloud.relay)) if cloud.relay else None,
        hedge_after_s=None if cloud.hedge_after_ms is None else cloud.hedge_after_ms / 1000,
        evidence=_policy(cloud.evidence),
    )
    dial_target(target)
    return target


def open_leg(cloud: RemoteTarget | CloudLeg, clock: Clock, on_evidence: Callable[[Claims], None] | None = None) -> CloudLeg:
    """A leg to the target, or the leg itself. Nothing is sent yet."""
    return RemoteLeg(cloud, clock=clock, on_evidence=on_evidence) if isinstance(cloud, RemoteTarget) else cloud


def _policy(evidence: HardwareEvidence | None) -> HardwarePolicy | None:
    try:
        return None if evidence is None else hardware_policy(evidence)
    except ValueError as error:
        raise TargetError(f"[targets.cloud.evidence]: {error}") from None


def _is_loopback(address: str) -> bool:
    return is_loopback(address.rpartition(":")[0].strip("[]"))
