"""BCEWithLogits: w·[pw·t·sp(−x) + (1−t)·sp(x)] of every element, sp(v) = ln(1 + exp v)."""

from __future__ import annotations

from google.protobuf.message import Message

from lossd_server.job import Formula, Job
from lossd_server.losses import elementwise


def check(request: Message) -> Job:
    """input logits and target of one shape."""
    return elementwise.check("BCEWithLogits", request, Formula.BCE_WITH_LOGITS)
