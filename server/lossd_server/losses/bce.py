"""BCE: −w·[t·max(ln p, −100) + (1−t)·max(ln(1−p), −100)] of every element."""

from __future__ import annotations

from lossd_server.jobs.job import Formula, Job
from lossd_server.losses import elementwise
from lossd_server.tensors.request_fields import Fields


def check(fields: Fields) -> Job:
    """input p and target t of one shape; that they lie in [0, 1] is found where they are used."""
    return elementwise.check("BCE", fields, Formula.BCE)
