"""Forms that note in a call's record how long its job waited, was computed, and was written."""

from __future__ import annotations

from time import monotonic_ns
from typing import Any

from lossd_server.call.record import CallRecord, WorkTimes
from lossd_server.engine.batcher import Form
from lossd_server.jobs.job import Answer, Job
from lossd_server.wire import codec


def timed(record: CallRecord | None, job: Job, form: Form | None = None) -> Form | None:
    """`form` (None: the response of the job's RPC), of a job that is put in line now; itself where nobody looks on."""
    if record is None:
        return form
    queued_ns, loss, layout = monotonic_ns(), job.rpc, job.layout
    rows = layout.elements if job.formula.elementwise else layout.rows

    def noted(answer: Answer, queue_ns: int, compute_ns: int, requests: int, batch_rows: int) -> Any:
        encoding_ns = monotonic_ns()
        written = (form or codec.encode_parts)(answer, queue_ns, compute_ns, requests, batch_rows)
        # Others of its batch may have been written before it, which is no part of computing it.
        started_ns = queued_ns + queue_ns
        computed_ns = min(encoding_ns, started_ns + compute_ns)
        written_ns = monotonic_ns()
        record.worked(
            WorkTimes(loss, rows, queued_ns, started_ns, computed_ns, encoding_ns, written_ns, requests, batch_rows)
        )
        return written

    return noted
