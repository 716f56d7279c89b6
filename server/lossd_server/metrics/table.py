"""Table of metrics: every name, what it counts, and its labels. `docs/metrics.md` shows it."""

from __future__ import annotations

from typing import NamedTuple

COUNTER, GAUGE, HISTOGRAM = "counter", "gauge", "histogram"


class Metric(NamedTuple):
    """name: of a counter without its _total. help: what it is, as # HELP says it."""

    name: str
    kind: str
    help: str
    labels: tuple[str, ...] = ()

    @property
    def shown(self) -> str:
        """The name that queries use."""
        return f"{self.name}_total" if self.kind == COUNTER else self.name


METHOD = ("grpc_type", "grpc_service", "grpc_method")

STARTED = Metric("grpc_server_started", COUNTER, "Calls that were begun.", METHOD)
HANDLED = Metric(
    "grpc_server_handled", COUNTER, "Calls that have ended, whatever their status.", (*METHOD, "grpc_code")
)
HANDLING = Metric("grpc_server_handling_seconds", HISTOGRAM, "Seconds from a call's beginning to its status.", METHOD)
RECEIVED = Metric("grpc_server_msg_received", COUNTER, "Messages that calls have received.", METHOD)
SENT = Metric("grpc_server_msg_sent", COUNTER, "Messages that calls have sent.", METHOD)

QUEUE_WAIT = Metric(
    "lossd_queue_wait_seconds", HISTOGRAM, "Seconds that a request waited for the batch that it was computed in."
)
COMPUTE = Metric(
    "lossd_compute_seconds", HISTOGRAM, "Seconds that the batch of a request was computed, by its loss.", ("loss",)
)
TRANSFER = Metric(
    "lossd_transfer_seconds", HISTOGRAM, "Seconds that a batch was copied to the GPU and back; none on a CPU."
)
BATCH_REQUESTS = Metric("lossd_batch_requests", HISTOGRAM, "Requests that were computed together.")
BATCH_ROWS = Metric(
    "lossd_batch_rows", HISTOGRAM, "Rows (elements, of elementwise losses) that were computed together."
)
EVALUATIONS = Metric(
    "lossd_evaluations",
    COUNTER,
    "Evaluations by how they ended: with a result, or with a status; a stream has many.",
    ("loss", "result"),
)
INFLIGHT_BYTES = Metric("lossd_inflight_bytes", GAUGE, "Bytes that requests in progress hold.")
INFLIGHT_BYTES_LIMIT = Metric("lossd_inflight_bytes_limit", GAUGE, "Bytes that they may hold: --max-inflight-bytes.")
INFLIGHT_REQUESTS = Metric("lossd_inflight_requests", GAUGE, "Requests in progress.")
INFLIGHT_REQUESTS_LIMIT = Metric(
    "lossd_inflight_requests_limit", GAUGE, "How many there may be: --max-inflight-requests."
)
WAITING_REQUESTS = Metric("lossd_waiting_requests", GAUGE, "Requests and streams that wait for room.")
STREAMS = Metric("lossd_streams", GAUGE, "Streams that are open.")
CONNECTIONS = Metric("lossd_connections", GAUGE, "Connections that are open; not on --front grpcio.")
UTILIZATION = Metric(
    "lossd_utilization",
    GAUGE,
    "How much of what it can do the server does: 1 where no more fits, above while calls wait; the mean of workers.",
)
SHED = Metric(
    "lossd_shed", COUNTER, "Those of lossd_refused_total that were refused for load, to come back later.", ("reason",)
)
REFUSED = Metric("lossd_refused", COUNTER, "Calls, and evaluations of streams, that ended with a status.", ("reason",))
HTTP_REFUSED = Metric(
    "lossd_http_refused", COUNTER, "Requests that the HTTP port refused by itself, before they were calls.", ("reason",)
)
CANCELLED = Metric("lossd_cancelled", COUNTER, "Calls that their clients gave up.")
IDENTITY_REQUESTS = Metric("lossd_identity_requests", COUNTER, "Calls by who made them.", ("identity",))
IDENTITY_BYTES = Metric(
    "lossd_identity_inflight_bytes", GAUGE, "Bytes that requests in progress hold, by who made them.", ("identity",)
)
SHARED_MEMORY = Metric("lossd_shared_memory_bytes", GAUGE, "Shared memory that clients have registered.")
DEVICE_MEMORY = Metric(
    "lossd_device_memory_bytes",
    GAUGE,
    "Memory of each worker's GPU: used, by whomever, and total; none on a CPU.",
    ("worker", "device", "kind"),
)
WORKERS = Metric("lossd_workers", GAUGE, "Server processes that run.")
RESTARTS = Metric("lossd_worker_restarts", COUNTER, "Server processes that were started in the place of another.")
CERTIFICATE_EXPIRY = Metric(
    "lossd_certificate_expiry_timestamp_seconds",
    GAUGE,
    "When the first certificate of a file ends, in seconds since the Unix epoch; none without TLS.",
    ("file",),
)
BUILD = Metric(
    "lossd_build_info",
    GAUGE,
    "1, with the version, the first worker's device and the backend.",
    ("version", "device", "backend"),
)

# Those of prometheus_client, added up over all processes of the server.
PROCESS = (
    Metric("process_virtual_memory_bytes", GAUGE, "Virtual memory size in bytes."),
    Metric("process_resident_memory_bytes", GAUGE, "Resident memory size in bytes."),
    Metric("process_start_time_seconds", GAUGE, "Start time of the process since unix epoch in seconds."),
    Metric("process_cpu_seconds", COUNTER, "Total user and system CPU time spent in seconds."),
    Metric("process_max_fds", GAUGE, "Maximum number of open file descriptors."),
    Metric("process_open_fds", GAUGE, "Number of open file descriptors."),
)

METRICS = (
    STARTED, HANDLED, HANDLING, RECEIVED, SENT, QUEUE_WAIT, COMPUTE, TRANSFER, BATCH_REQUESTS, BATCH_ROWS, EVALUATIONS,
    INFLIGHT_BYTES, INFLIGHT_BYTES_LIMIT, INFLIGHT_REQUESTS, INFLIGHT_REQUESTS_LIMIT, WAITING_REQUESTS, STREAMS,
    CONNECTIONS, UTILIZATION, SHED, REFUSED, HTTP_REFUSED, CANCELLED, IDENTITY_REQUESTS, IDENTITY_BYTES, SHARED_MEMORY,
    DEVICE_MEMORY, WORKERS, RESTARTS, CERTIFICATE_EXPIRY, BUILD, *PROCESS,
)  # fmt: skip
