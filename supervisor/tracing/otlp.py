"""Spans as OTLP writes them: protobuf, by the standard's own definitions. Pure.

What a span says: where it came in, in which language, how it ended, what it cost. Never code, output, names of files,
nor who it was. A session's id lets its owner's key into the session's files, so only a part of its hash is told, which
is the same for the same session.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from typing import Final

from google.protobuf.message import DecodeError
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, InstrumentationScope, KeyValue
from opentelemetry.proto.resource.v1.resource_pb2 import Resource
from opentelemetry.proto.trace.v1.trace_pb2 import ResourceSpans, ScopeSpans, Span, Status

from supervisor import __version__
from supervisor.tracing.trace_context import Place
from supervisor.tracing.tracer import Told

CONTENT_TYPE: Final = "application/x-protobuf"
_SECOND: Final = 1_000_000_000
_SPAN_OF_STEP: Final = 8
_TOLD_DETAILS: Final = frozenset({"exited", "signalled", "refused", "failed"})
"""Outcomes whose detail is a number, or the name of one of our errors; an operator's name is none."""


def encode(batch: Sequence[Told], resource: Mapping[str, str]) -> bytes:
    """Write a batch down; ``resource`` says who tells it."""
    spans = [span for told in batch for span in _spans(told)]
    scope = ScopeSpans(scope=InstrumentationScope(name="gaoler", version=__version__), spans=spans)
    return ExportTraceServiceRequest(
        resource_spans=[ResourceSpans(resource=Resource(attributes=_attributes(resource)), scope_spans=[scope])]
    ).SerializeToString()


def refused_spans(answer: bytes) -> tuple[int, str]:
    """Read from the answer of a receiver that has taken a batch how many spans it did not take, and why."""
    try:
        partial = ExportTraceServiceResponse.FromString(answer).partial_success
    except DecodeError:
        return 0, ""
    return max(0, partial.rejected_spans), partial.error_message


def _spans(told: Told) -> list[Span]:
    record, place = told.record, told.place
    offset = record.began_at - told.began
    failed = record.outcome == "failed"
    whole = _span(
        place, "execution", Span.SPAN_KIND_SERVER, record.began_at, (record.ended_at or record.began_at), _facts(told)
    )
    if failed:
        whole.status.CopyFrom(Status(code=Status.STATUS_CODE_ERROR, message=record.detail))
    return [whole, *(_step(place, number, step, offset) for number, step in enumerate(told.steps))]


def _step(place: Place, number: int, step: tuple[str, float, float], offset: float) -> Span:
    name, began, ended = step
    # The same at each try: a receiver that has taken it already, and whose answer was lost, sees that it is no other.
    own = hashlib.sha256(f"{place.span} {number}".encode()).hexdigest()[: 2 * _SPAN_OF_STEP]
    below = Place(place.trace, own, sampled=True, parent=place.span, state=place.state)
    return _span(below, name, Span.SPAN_KIND_INTERNAL, began + offset, ended + offset, {})


def _span(
    place: Place,
    name: str,
    kind: Span.SpanKind.ValueType,
    began: float,
    ended: float,
    attributes: Mapping[str, str | int | float],
) -> Span:
    return Span(
        trace_id=bytes.fromhex(place.trace),
        span_id=bytes.fromhex(place.span),
        parent_span_id=bytes.fromhex(place.parent),
        trace_state=place.state,
        # The low byte is W3C's flags: it is sampled, or it would not be here.
        flags=1,
        name=name,
        kind=kind,
        start_time_unix_nano=round(began * _SECOND),
        end_time_unix_nano=round(max(began, ended) * _SECOND),
        attributes=_attributes(attributes),
    )


def _facts(told: Told) -> dict[str, str | int | float]:
    record = told.record
    facts: dict[str, str | int | float] = {
        "gaoler.door": record.door,
        "gaoler.kind": record.kind,
        "gaoler.language": told.language,
        "gaoler.outcome": record.outcome,
        "gaoler.request_id": record.request_id,
        "gaoler.cpu_seconds": record.cpu_seconds,
        "gaoler.memory_peak_bytes": record.memory_peak_bytes,
        "gaoler.output_bytes": record.output_bytes,
        "gaoler.files": record.files,
    }
    if record.tier:
        facts["gaoler.tier"] = record.tier
    if record.outcome in _TOLD_DETAILS and record.detail:
        facts["gaoler.detail"] = record.detail
    if record.session:
        facts["gaoler.session_hash"] = hashlib.sha256(record.session.encode()).hexdigest()[:16]
    return facts


def _attributes(values: Mapping[str, str | int | float]) -> list[KeyValue]:
    return [KeyValue(key=key, value=_value(value)) for key, value in values.items()]


def _value(value: str | float) -> AnyValue:
    if isinstance(value, str):
        return AnyValue(string_value=value)
    return AnyValue(int_value=value) if isinstance(value, int) else AnyValue(double_value=value)
