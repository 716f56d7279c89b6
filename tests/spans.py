"""Spans of OpenTelemetry, as this process's own tracer provider records them for the time of a block."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import pytest
from opentelemetry import trace
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from tests.waiting import until_awaited


class Spans:
    """Those that have ended."""

    def __init__(self, exporter: InMemorySpanExporter, provider: TracerProvider) -> None:
        self._exporter = exporter
        self.tracer = provider.get_tracer("tests")

    @property
    def all(self) -> Sequence[ReadableSpan]:
        return self._exporter.get_finished_spans()

    def named(self, name: str, kind: trace.SpanKind) -> list[ReadableSpan]:
        return [span for span in self.all if span.name == name and span.kind is kind]

    def below(self, parent: ReadableSpan) -> list[ReadableSpan]:
        """In the order in which they began."""
        found = [span for span in self.all if span.parent is not None and span.parent.span_id == id_of(parent)]
        return sorted(found, key=lambda span: span.start_time or 0)

    async def served(self, name: str, count: int = 1) -> list[ReadableSpan]:
        """So many of the server's: they end a moment after their answers."""
        found: list[ReadableSpan] = []

        def there() -> bool:
            found[:] = self.named(name, trace.SpanKind.SERVER)
            return len(found) >= count

        await until_awaited(there, lambda: f"{count} of {name}; there are {[span.name for span in self.all]}")
        return found


def id_of(span: ReadableSpan) -> int:
    """Of a span that was recorded."""
    assert span.context is not None
    number: int = span.context.span_id
    return number


@contextmanager
def process_provider(patch: pytest.MonkeyPatch) -> Iterator[Spans]:
    """A provider may be set once in a process: what the setter sets is set here, and taken back."""
    exporter = InMemorySpanExporter()
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    with patch.context() as inside:
        inside.setattr(trace, "_TRACER_PROVIDER", provider)
        yield Spans(exporter, provider)
