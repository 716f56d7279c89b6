"""OTLP: a tracer provider that sends spans to a collector. The standard OTEL_… variables say where, which and as whom.

It belongs to one server, and is not the process's own.
"""

from __future__ import annotations

import asyncio
import logging
import os
import threading
import uuid
from importlib import import_module
from typing import TYPE_CHECKING, Any

from lossd.extras import install_hint
from lossd.version import __version__
from lossd_server.config.settings import Settings, SettingsError

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import TracerProvider

# For what is left at the end, of which a collector that is gone takes nothing.
FLUSH_S = 3.0
# The first that is set; gRPC where none is: the server has its library.
PROTOCOL = "OTEL_EXPORTER_OTLP_PROTOCOL"
OF_TRACES = "OTEL_EXPORTER_OTLP_TRACES_PROTOCOL"
EXPORTERS = {
    "grpc": "opentelemetry.exporter.otlp.proto.grpc.trace_exporter",
    "http/protobuf": "opentelemetry.exporter.otlp.proto.http.trace_exporter",
}

log = logging.getLogger(__name__)


def check_traces(settings: Settings) -> None:
    """Raises SettingsError where traces are asked for and a library is missing, or the protocol is none."""
    try:
        if settings.traces != "off":
            import_module("opentelemetry.trace")
        if settings.traces == "otlp":
            import_module("opentelemetry.sdk.trace")
            _exporters()
    except ImportError as error:
        raise SettingsError(f"traces = {settings.traces} needs OpenTelemetry: {_hint(error)} ({error})") from None


def otlp_provider(settings: Settings) -> TracerProvider | None:
    """None where the settings ask for none. Raises as `check_traces`."""
    if settings.traces != "otlp":
        return None
    check_traces(settings)
    from opentelemetry.sdk.resources import OTELResourceDetector, Resource
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor

    # What clients name as their spans may be none: that is no event of the server's.
    logging.getLogger("opentelemetry.trace").setLevel(logging.ERROR)
    own = {"service.name": "lossd", "service.version": __version__, "service.instance.id": str(uuid.uuid4())}
    resource = Resource.create({**own, **OTELResourceDetector().detect().attributes})
    provider = TracerProvider(resource=resource, shutdown_on_exit=False)
    provider.add_span_processor(BatchSpanProcessor(_exporters().OTLPSpanExporter()))
    return provider


async def close_provider(provider: TracerProvider) -> None:
    """Sends what is left, for a few seconds at most: by a thread that nobody waits for any longer."""
    loop = asyncio.get_running_loop()
    sent = asyncio.Event()

    def shut_down() -> None:
        provider.shutdown()
        try:
            loop.call_soon_threadsafe(sent.set)
        except RuntimeError:  # the loop was closed without waiting
            return

    await asyncio.sleep(0)  # records of the last calls are told in the turn after their answers
    threading.Thread(target=shut_down, name="lossd-traces", daemon=True).start()
    try:
        await asyncio.wait_for(sent.wait(), FLUSH_S)
    except TimeoutError:
        log.warning("spans lost: the collector does not take them")


def _exporters() -> Any:
    """The module of the protocol's exporter."""
    protocol = os.environ.get(OF_TRACES) or os.environ.get(PROTOCOL) or "grpc"
    if protocol not in EXPORTERS:
        raise SettingsError(f"{PROTOCOL} = {protocol!r} must be one of {', '.join(EXPORTERS)}")
    return import_module(EXPORTERS[protocol])


def _hint(error: ImportError) -> str:
    """The extra has the exporter over gRPC alone: the other one needs libraries that nothing else here does."""
    if ".http" in (error.name or ""):
        return "pip install opentelemetry-exporter-otlp-proto-http"
    return install_hint("otel")
