"""A Decision as text: the same record, one line a check. Adds nothing that the record does not hold."""

from __future__ import annotations

from leanto.decision import Check, Decision, Value
from leanto.signals import Snapshot

_MARK = {"pass": "pass", "veto": "VETO", "waived": "waived", "moot": "moot", "unknown": "unknown", "pending": "later", "skipped": "skipped"}


def explain(decision: Decision) -> str:
    """Several lines, without a final newline."""
    head = f"request   {decision.request_id}  task {decision.task}  privacy {decision.privacy}  policy {decision.policy_hash[:12]}"
    lines = [head, f"device    {device(decision.snapshot)}", *_table(decision.checks), _route(decision)]
    if decision.confidence is not None:
        error = "" if decision.ece is None else f", expected calibration error {decision.ece:.3f}"
        scale = f"calibrated{error}" if decision.calibrated else "uncalibrated mean token probability"
        lines.append(f"confident {decision.confidence:.3f} ({scale})")
    elif decision.ece is not None:
        lines.append(f"confident calibrated, expected calibration error {decision.ece:.3f}; known when the answer is complete")
    if decision.error is not None:
        lines.append(f"failed    {decision.error}: no answer came of it")
    if decision.total_ms:
        lines.append(f"cost      {_cost(decision)}")
    return "\n".join(lines)


def device(snapshot: Snapshot) -> str:
    """The snapshot in one line; what no source could tell is called unknown."""
    power = {True: " plugged", False: " unplugged", None: ""}[snapshot.plugged]
    memory = None if snapshot.memory_available_bytes is None else snapshot.memory_available_bytes / 2**20
    return ", ".join(
        [
            f"battery {_known(snapshot.battery_percent, '.0f', '%')}{power}",
            f"load {_known(snapshot.cpu_load, '.2f', '')}",
            f"memory {_known(memory, '.0f', ' MiB free')}",
            f"temperature {_known(snapshot.temperature_c, '.0f', ' °C')}",
            f"link {snapshot.link}",
            *_more(snapshot),
        ]
    )


def _more(snapshot: Snapshot) -> list[str]:
    """What few machines can tell, where it can be told."""
    return [
        *([f"drawing {snapshot.battery_power_w:.1f} W"] if snapshot.battery_power_w else []),
        *([f"waiting for memory {snapshot.memory_pressure:.0%} of the time"] if snapshot.memory_pressure else []),
        *(["throttled"] if snapshot.throttled else []),
        *(["metered"] if snapshot.metered else []),
        *([f"round trip {snapshot.rtt_ms:.0f} ms"] if snapshot.rtt_ms is not None else []),
    ]


def _known(value: float | None, form: str, unit: str) -> str:
    return "unknown" if value is None else f"{value:{form}}{unit}"


def _table(checks: tuple[Check, ...]) -> list[str]:
    rows = [(check.stage, check.name, _show(check.value), _show(check.threshold), _MARK[check.verdict]) for check in checks]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = []
    for row, check in zip(rows, checks, strict=True):
        cells = "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True))
        turned = f"; {check.flip} would turn it" if check.flip else ""
        lines.append(f"{cells}  → {', '.join(check.allowed_after) or 'nothing'}  ({check.reason}{turned})")
    return lines


def _show(value: Value) -> str:
    if value is None:
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _route(decision: Decision) -> str:
    veto = decision.first_veto
    because = f"  because {decision.label}" if decision.labels else ""
    return f"route     {decision.route}{because}" + (f"  (first veto: {veto.stage}.{veto.name})" if veto else "")


def _cost(decision: Decision) -> str:
    wasted = f", {decision.wasted_j:.3f} J wasted" if decision.wasted_j else ""
    energy = "n/a" if decision.energy_j is None else f"{decision.energy_j:.3f} J ({decision.energy_source}{wasted})"
    first = "" if decision.ttft_ms is None else f" (first text {decision.ttft_ms:.1f} ms)"
    tokens = f"tokens {decision.local_tokens} local, {decision.cloud_tokens} cloud, {decision.wasted_tokens} wasted"
    return f"{decision.total_ms:.1f} ms{first}, {tokens}, {decision.bytes_sent} bytes sent, energy {energy}"
