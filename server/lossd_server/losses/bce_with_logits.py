"""BCEWithLogits: w·[pw·t·sp(−x) + (1−t)·sp(x)] of every element, sp(v) = ln(1 + exp v)."""

from __future__ import annotations

from lossd_server.jobs.job import Formula, Job
from lossd_server.losses import elementwise
from lossd_server.tensors.request_fields import Fields


def check(fields: Fields) -> Job:
    """input logits and target of one shape."""
    return elementwise.check("BCEWithLogits", fields, Formula.BCE_WITH_LOGITS)
