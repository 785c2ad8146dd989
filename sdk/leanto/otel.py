"""Decisions as OpenTelemetry spans and metrics, by the conventions for generative AI; needs the otel extra.

Only what a decision holds: never the text of a prompt or an answer, whatever the conventions would allow. Tokens used are those of the
answer; what was wasted is counted under a name of its own.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from leanto.decision import Decision
from leanto.trace import attributes

if TYPE_CHECKING:
    from opentelemetry.metrics import MeterProvider
    from opentelemetry.trace import TracerProvider

# Bounds that the conventions advise, in seconds and in tokens.
SECONDS = (0.01, 0.02, 0.04, 0.08, 0.16, 0.32, 0.64, 1.28, 2.56, 5.12, 10.24, 20.48, 40.96, 81.92)
TOKENS = (1, 4, 16, 64, 256, 1024, 4096, 16384, 65536, 262144, 1048576, 4194304, 16777216, 67108864)

_BY = ("gen_ai.operation.name", "gen_ai.provider.name", "gen_ai.request.model", "leanto.route")


class OpenTelemetry:
    """A recorder for Client(recorders=…). Providers default to the process's own."""

    def __init__(self, tracer_provider: TracerProvider | None = None, meter_provider: MeterProvider | None = None) -> None:
        from opentelemetry import metrics, trace

        self._api = trace
        meter = metrics.get_meter("leanto", meter_provider=meter_provider)
        self._apir = trace.get_tracer("leanto", tracer_provider=tracer_provider)
        self._duration = meter.create_histogram(
            "gen_ai.client.operation.duration", "s", "Time from the call to the last token", explicit_bucket_boundaries_advisory=SECONDS
        )
        self._first = meter.create_histogram(
            "gen_ai.client.operation.time_to_first_chunk", "s", "Time to the first text", explicit_bucket_boundaries_advisory=SECONDS
        )
        self._tokens = meter.create_histogram(
            "gen_ai.client.token.usage", "{token}", "Tokens read and written", explicit_bucket_boundaries_advisory=TOKENS
        )
        self._wasted = meter.create_counter("leanto.wasted_tokens", "{token}", "Tokens written that are not part of an answer")
        self._joules = meter.create_counter("leanto.signals.energy", "J", "Energy, where it was measured")
        self._usd = meter.create_counter("leanto.cost", "{USD}", "Price of the cloud's tokens")
        self._bytes = meter.create_counter("leanto.sent", "By", "Sealed bytes put on the wire")

    def write(self, decision: Decision) -> None:
        """One span, that lasted as long as the request, with an event for each check; and the measures."""
        end_s = decision.decided_at
        found = attributes(decision)
        span = self._apir.start_span(
            f"{found['gen_ai.operation.name']} leanto",
            kind=self._api.SpanKind.CLIENT,
            start_time=_ns(end_s - decision.total_ms / 1000),
            attributes=found,
        )
        if decision.error is not None:
            span.set_status(self._api.StatusCode.ERROR)
        for check in decision.checks:
            values = {name: value for name, value in (("value", check.value), ("threshold", check.threshold)) if value is not None}
            span.add_event(f"{check.stage}.{check.name}", {"verdict": check.verdict, **values}, _ns(end_s))
        span.end(_ns(end_s))

        by = {name: found[name] for name in _BY if name in found}
        failed = {} if decision.error is None else {"error.type": decision.error}
        self._duration.record(decision.total_ms / 1000, {**by, **failed})
        if decision.ttft_ms is not None:
            self._first.record(decision.ttft_ms / 1000, by)
        self._tokens.record(decision.answer_tokens, {**by, "gen_ai.token.type": "output"})
        if decision.facts is not None:
            self._tokens.record(decision.facts.prompt_tokens, {**by, "gen_ai.token.type": "input"})
        self._wasted.add(decision.wasted_tokens, by)
        self._joules.add(decision.energy_j or 0.0, by)
        self._usd.add(decision.usd, by)
        self._bytes.add(decision.bytes_sent, by)

    def close(self) -> None:
        """Nothing of its own to close: providers belong to whoever made them."""


def _ns(seconds: float) -> int:
    return max(0, round(seconds * 1e9))
