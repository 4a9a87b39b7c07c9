"""Traces, metrics and logs: where a request went, how it went, and nothing about what it contained.

A `Trace` is a W3C trace context. It travels in the HTTP header `traceparent`, in the last field of a hub frame, in
service tokens and in outbox rows (`Trace.traceparent`, `parse_trace`), always, whether or not spans are exported.
Spans are exported by OTLP only after `export_spans`. Logs are in `core.logs`.
"""

from __future__ import annotations

import importlib
import re
from collections.abc import Callable, Sequence
from contextvars import ContextVar, Token
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from core.errors import BankhubError, Invalid

if TYPE_CHECKING:
    from core.rng import Rng

# --- traces -------------------------------------------------------------------------------------------------------

_TRACEPARENT: Final = re.compile(r"00-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})")


class Trace(NamedTuple):
    """One position in a trace: 32 and 16 hexadecimal digits, as https://www.w3.org/TR/trace-context/ has them."""

    trace_id: str
    span_id: str
    sampled: bool = True

    @property
    def traceparent(self) -> str:
        return f"00-{self.trace_id}-{self.span_id}-{'01' if self.sampled else '00'}"

    def child(self, rng: Rng) -> Trace:
        """A new span of the same trace."""
        return Trace(self.trace_id, rng.mark(8).hex(), self.sampled)


def new_trace(rng: Rng) -> Trace:
    """A trace that begins here. Its ids are no secrets: a caller may bring ids of its own."""
    drawn = rng.mark(24).hex()
    return Trace(drawn[:32], drawn[32:])


def parse_trace(traceparent: str | None) -> Trace | None:
    """The caller's trace, or None when there is none or it is malformed (then a new one begins, says the standard)."""
    if not traceparent or len(traceparent) > 64:
        return None
    match = _TRACEPARENT.fullmatch(traceparent)
    if match is None or match[1] == "0" * 32 or match[2] == "0" * 16:
        return None
    return Trace(match[1], match[2], bool(int(match[3], 16) & 1))


def inject(frame: list[Any], trace: Trace) -> list[Any]:
    """`frame` with the trace as its trailing field; readers that do not know it ignore it (protocol.md)."""
    return [*frame, trace.traceparent]


def extract(frame: Sequence[Any], known_fields: int) -> Trace | None:
    """The trace behind the `known_fields` fields of a hub frame, if the sender put one there."""
    extra = frame[known_fields] if len(frame) > known_fields else None
    return parse_trace(extra) if isinstance(extra, str) else None


_tracer: Any = None


class span:  # noqa: N801 - reads as a function: with span(...) as trace
    """Do something as a child of `parent`: gives its trace, logs inside carry it, an exporter gets the span.

    Attributes are ids and names of actions, never contents; logs inside carry them too. An error marks the span with
    its code. (A class, because a generator costs several times as much, and this is around everything.)
    """

    __slots__ = ("_before", "_exported", "attributes", "trace")

    def __init__(self, name: str, parent: Trace, rng: Rng, **attributes: str | int) -> None:
        self.attributes = attributes
        self._before: Token[span | None]
        if _tracer is None:
            self._exported, self.trace = None, parent.child(rng)
        else:
            self._exported, self.trace = _open(name, parent, attributes)

    def __enter__(self) -> Trace:
        self._before = _current.set(self)
        return self.trace

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, frames: TracebackType | None
    ) -> None:
        _current.reset(self._before)
        if self._exported is not None:
            if error is not None:
                code = error.code if isinstance(error, BankhubError) else "internal"
                self._exported.set_attribute("error.type", code)
            self._exported.end()


_current: ContextVar[span | None] = ContextVar("bankhub_span", default=None)


def current_trace() -> Trace | None:
    """The trace of what this task is doing."""
    inside = _current.get()
    return None if inside is None else inside.trace


def current_fields() -> dict[str, str | int]:
    """What logs say about what this task is doing."""
    inside = _current.get()
    if inside is None:
        return {}
    return {"trace_id": inside.trace.trace_id, "span_id": inside.trace.span_id, **inside.attributes}


def _open(name: str, parent: Trace, attributes: dict[str, str | int]) -> tuple[Any, Trace]:
    from opentelemetry import trace as otel

    above = otel.SpanContext(
        int(parent.trace_id, 16), int(parent.span_id, 16), True, otel.TraceFlags(1 if parent.sampled else 0)
    )
    context = otel.set_span_in_context(otel.NonRecordingSpan(above))
    exported = _tracer.start_span(name, context, attributes=attributes)
    inside = exported.get_span_context()
    trace = Trace(f"{inside.trace_id:032x}", f"{inside.span_id:016x}", bool(inside.trace_flags & 1))
    return exported, trace


def export_spans(otlp_url: str, service: str, node: str) -> Callable[[], None]:
    """Send spans to an OTLP/HTTP collector from now on; gives the function that flushes and ends it.

    Raises `Invalid` when the exporter is not installed.
    """
    global _tracer
    try:
        exporter = importlib.import_module("opentelemetry.exporter.otlp.proto.http.trace_exporter")
        from opentelemetry.sdk.resources import Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor
    except ImportError as error:
        raise Invalid("BANKHUB_OTLP_URL is set but the OpenTelemetry exporter is not installed") from error
    provider = TracerProvider(
        resource=Resource.create({"service.name": service, "service.instance.id": node}),
        shutdown_on_exit=False,
    )
    provider.add_span_processor(BatchSpanProcessor(exporter.OTLPSpanExporter(endpoint=otlp_url)))
    _tracer = provider.get_tracer("bankhub")

    def end() -> None:
        global _tracer
        _tracer = None
        provider.shutdown()

    return end


# --- metrics ------------------------------------------------------------------------------------------------------

METRICS: Final = CollectorRegistry()
"""Every metric of this process. Labels are names of actions, codes and kinds: few, and never a person."""

_SECONDS: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)


def counter(name: str, what: str, labels: Sequence[str] = ()) -> Counter:
    """A counter of this process, made once at import."""
    return Counter(name, what, labels, registry=METRICS)


def gauge(name: str, what: str, labels: Sequence[str] = ()) -> Gauge:
    """A gauge of this process, made once at import."""
    return Gauge(name, what, labels, registry=METRICS)


def histogram(
    name: str, what: str, labels: Sequence[str] = (), *, buckets: Sequence[float] = _SECONDS
) -> Histogram:
    """A histogram of this process, made once at import; seconds unless `buckets` say otherwise."""
    return Histogram(name, what, labels, buckets=buckets, registry=METRICS)


def render_metrics() -> bytes:
    """All metrics in Prometheus' text format."""
    return generate_latest(METRICS)
