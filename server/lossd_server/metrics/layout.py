"""Layout of a worker's slot of shared memory: words of 64 bits, and which of them counts what.

Times are in nanoseconds. A histogram has a word for each bucket, one more for what is above all bounds, and the sum.
Names have their own words, so that labels that only a worker knows can be read by others.
"""

from __future__ import annotations

from enum import IntEnum

from lossd_server.metrics.methods import LOSSES, METHODS

# Upper bounds of buckets. Times: 50 µs to 100 s in steps of 2 and 2.5. Requests and rows of a batch.
TIMES_NS = tuple(
    step * 10_000 * 10**power for power in range(7) for step in (5, 10, 25)
)[:-1]  # fmt: skip
REQUESTS = tuple(1 << power for power in range(14))
ROWS = tuple(1 << 2 * power for power in range(14))
# gRPC's codes, as labels have them.
CODES = (
    "OK", "Canceled", "Unknown", "InvalidArgument", "DeadlineExceeded", "NotFound", "AlreadyExists",
    "PermissionDenied", "ResourceExhausted", "FailedPrecondition", "Aborted", "OutOfRange", "Unimplemented", "Internal",
    "Unavailable", "DataLoss", "Unauthenticated",
)  # fmt: skip
OTHER = "other"
# Names of a kind that a worker tells apart; place 0 is that of all others.
MOST_NAMES = 64
NAME_BYTES = 64
NAME_WORDS = 1 + NAME_BYTES // 8  # its length, written last, and its bytes


# Of a gauge that is no whole number.
AS_WORD = 1_000_000


class Gauge(IntEnum):
    """Words that say how it is now, from the start of a slot. They end with their worker."""

    PID = 1
    INFLIGHT_BYTES = 2
    INFLIGHT_BYTES_LIMIT = 3
    INFLIGHT_REQUESTS = 4
    INFLIGHT_REQUESTS_LIMIT = 5
    WAITING_REQUESTS = 6
    STREAMS = 7
    CONNECTIONS = 8
    SHARED_MEMORY_BYTES = 9
    DEVICE_MEMORY_USED = 10
    DEVICE_MEMORY_TOTAL = 11
    UTILIZATION = 12  # in millionths, as AS_WORD has it


def histogram_words(bounds: tuple[int, ...]) -> int:
    """Words of a histogram."""
    return len(bounds) + 2


TIMES_WIDTH = histogram_words(TIMES_NS)
# Of a method, from its first word. A unary call that ends well has had one message of each kind, and is one of WELL or
# AT_ONCE: so its words are two, or four.
STARTED, RECEIVED, SENT, HANDLED = 0, 1, 2, 3
WELL = HANDLED + len(CODES)
BADLY = WELL + TIMES_WIDTH
AT_ONCE = BADLY + TIMES_WIDTH
METHOD_WORDS = AT_ONCE + TIMES_WIDTH
# Of a loss.
COMPLETED, FAILED, COMPUTE = 0, 1, 2
# Of evaluations by plans, each completed: without a wait, in batches that nobody else counts.
PLANNED = COMPUTE + TIMES_WIDTH
LOSS_WORDS = PLANNED + TIMES_WIDTH

BEAT = 0  # when the event loop last told of itself, on time.monotonic_ns: the same clock in every process
IDENTITY_BYTES = 1 + len(Gauge)
GAUGES_END = IDENTITY_BYTES + MOST_NAMES  # what lies before it, but for the beat, is a gauge
CANCELLED = GAUGES_END
REFUSED = CANCELLED + 1
SHED = REFUSED + MOST_NAMES
IDENTITY_REQUESTS = SHED + MOST_NAMES
QUEUE_WAIT = IDENTITY_REQUESTS + MOST_NAMES
TRANSFER = QUEUE_WAIT + TIMES_WIDTH
BATCH_REQUESTS = TRANSFER + TIMES_WIDTH
BATCH_ROWS = BATCH_REQUESTS + histogram_words(REQUESTS)
BY_METHOD = BATCH_ROWS + histogram_words(ROWS)
BY_LOSS = BY_METHOD + len(METHODS) * METHOD_WORDS
REASON_NAMES = BY_LOSS + len(LOSSES) * LOSS_WORDS
IDENTITY_NAMES = REASON_NAMES + MOST_NAMES * NAME_WORDS
SLOT_WORDS = IDENTITY_NAMES + MOST_NAMES * NAME_WORDS
# Behind all slots: what the process counts that watches the workers and has the HTTP port.
RESTARTS = 0
HTTP_REFUSED = 1
HTTP_NAMES = HTTP_REFUSED + MOST_NAMES
SHARED_WORDS = HTTP_NAMES + MOST_NAMES * NAME_WORDS
