from __future__ import annotations

from typing import Any

import pytest

from leanto import Client, Decision

pytest.importorskip("opentelemetry.sdk", reason="needs the otel extra")

from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.semconv._incubating.attributes import gen_ai_attributes
from opentelemetry.semconv._incubating.metrics import gen_ai_metrics

from leanto.otel import OpenTelemetry

SECRET = "zanzibar"


def recorded(*prompts: str) -> tuple[list[Any], dict[str, Any], list[Decision]]:
    spans, reader = InMemorySpanExporter(), InMemoryMetricReader()
    tracers = TracerProvider()
    tracers.add_span_processor(SimpleSpanProcessor(spans))
    with Client(recorders=[OpenTelemetry(tracers, MeterProvider([reader]))]) as client:
        decisions = [client.ask(prompt).decision for prompt in prompts]
    data = reader.get_metrics_data()
    assert data is not None
    metrics = {metric.name: metric for resource in data.resource_metrics for scope in resource.scope_metrics for metric in scope.metrics}
    return list(spans.get_finished_spans()), metrics, decisions


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
