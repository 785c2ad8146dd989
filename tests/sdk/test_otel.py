from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from leanto import Client, Decision, Snapshot

pytest.importorskip("opentelemetry.sdk", reason="needs the otel extra")

from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.semconv._incubating.attributes import gen_ai_attributes
from opentelemetry.semconv._incubating.metrics import gen_ai_metrics
from opentelemetry.trace import SpanKind, StatusCode

from leanto.otel import OpenTelemetry

SECRET = "zanzibar"


def recorded(*prompts: str) -> tuple[list[Any], dict[str, Any], list[Decision]]:
    decisions: list[Decision] = []

    def ask(recorder: OpenTelemetry) -> None:
        with Client(recorders=[recorder]) as client:
            decisions.extend(client.ask(prompt).decision for prompt in prompts)

    return (*collected(ask), decisions)


def told(*decisions: Decision) -> tuple[list[Any], dict[str, Any]]:
    def write(recorder: OpenTelemetry) -> None:
        for decision in decisions:
            recorder.write(decision)

    return collected(write)


def collected(use: Callable[[OpenTelemetry], None]) -> tuple[list[Any], dict[str, Any]]:
    """The spans, and the metrics by name."""
    spans, reader = InMemorySpanExporter(), InMemoryMetricReader()
    tracers = TracerProvider()
    tracers.add_span_processor(SimpleSpanProcessor(spans))
    use(OpenTelemetry(tracers, MeterProvider([reader])))
    data = reader.get_metrics_data()
    assert data is not None
    metrics = {metric.name: metric for resource in data.resource_metrics for scope in resource.scope_metrics for metric in scope.metrics}
    return list(spans.get_finished_spans()), metrics


def test_a_request_is_a_span_by_the_conventions() -> None:
    (span,), _, (decision,) = recorded("wake me up at six")
    assert span.name == "text_completion leanto"
    assert span.attributes["gen_ai.usage.output_tokens"] == decision.local_tokens
    assert span.attributes["gen_ai.usage.input_tokens"] == decision.facts.prompt_tokens  # type: ignore[union-attr]
    assert span.attributes["leanto.route"] == "local"
    assert (span.end_time - span.start_time) / 1e6 == pytest.approx(decision.total_ms, abs=0.01)
    assert [event.name for event in span.events] == [f"{check.stage}.{check.name}" for check in decision.checks]


def test_requests_are_counted() -> None:
    _, metrics, decisions = recorded("wake me up at six", "play some jazz")
    (duration,) = metrics["gen_ai.client.operation.duration"].data.data_points
    assert duration.count == 2
    tokens = {point.attributes["gen_ai.token.type"]: point.sum for point in metrics["gen_ai.client.token.usage"].data.data_points}
    assert tokens["output"] == sum(decision.local_tokens for decision in decisions)


LEANED = Decision(
    *("r1", "p", "edge", "large", "text", "personal", Snapshot(), (), "local→cloud", ()),
    local_tokens=12, cloud_tokens=30, wasted_tokens=10, total_ms=5.0, decided_at=100.0,
)  # fmt: skip


def test_tokens_used_are_those_of_the_answer_and_wasted_ones_are_counted_apart() -> None:
    (span,), metrics = told(LEANED)
    (used,) = metrics["gen_ai.client.token.usage"].data.data_points
    (wasted,) = metrics["leanto.wasted_tokens"].data.data_points
    assert used.sum == span.attributes["gen_ai.usage.output_tokens"] == 32
    assert wasted.value == span.attributes["leanto.wasted_tokens"] == 10


def test_a_request_without_an_answer_is_an_error_of_its_type() -> None:
    (span, fine), metrics = told(replace(LEANED, error="DeadlineExceeded"), LEANED)
    assert (span.kind, span.status.status_code) == (SpanKind.CLIENT, StatusCode.ERROR)
    assert span.attributes["error.type"] == "DeadlineExceeded"
    assert fine.status.status_code is StatusCode.UNSET
    assert [point.attributes.get("error.type") for point in metrics["gen_ai.client.operation.duration"].data.data_points] == [
        "DeadlineExceeded",
        None,
    ]


def test_nothing_turns_the_capture_of_content_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT", "true")
    monkeypatch.setenv("OTEL_SEMCONV_STABILITY_OPT_IN", "gen_ai_latest_experimental")
    (span,), _, _ = recorded(f"wake me up in {SECRET} at six")
    assert SECRET not in span.to_json()


def test_no_word_of_a_request_is_in_its_telemetry() -> None:
    spans, metrics, _ = recorded(f"wake me up in {SECRET} at six")
    told = "".join(span.to_json() for span in spans) + "".join(metric.to_json() for metric in metrics.values())
    assert "wake" not in told
    assert SECRET not in told


def test_the_names_are_those_of_the_present_conventions() -> None:
    (span,), metrics, _ = recorded("wake me up at six")
    known = {value for name, value in vars(gen_ai_attributes).items() if name.startswith("GEN_AI") and isinstance(value, str)}
    old = {"gen_ai.system", "gen_ai.prompt", "gen_ai.completion", "gen_ai.usage.prompt_tokens", "gen_ai.usage.completion_tokens"}
    used = {name for name in span.attributes if name.startswith("gen_ai.")}
    assert used <= known - old
    assert {name for name in metrics if name.startswith("gen_ai.")} <= {
        value for value in vars(gen_ai_metrics).values() if isinstance(value, str)
    }
    assert span.name == f"{span.attributes['gen_ai.operation.name']} {span.attributes['gen_ai.request.model']}"
