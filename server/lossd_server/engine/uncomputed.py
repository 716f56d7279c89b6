"""Errors of jobs that are not computed: their time is over, or the device is gone."""

from __future__ import annotations

import logging

from lossd_server.backends import DeviceLost
from lossd_server.errors import RETRY_AFTER_S, DeadlineOver, GoingAway, Overloaded

DEVICE_LOST_RETRY_S = 1.0
DEVICE_LOST = "DEVICE_LOST"  # the reason that a lost device's callers are given

log = logging.getLogger(__name__)


def deadline_over() -> DeadlineOver:
    return DeadlineOver("the call's time was over before it was computed", reason="DEADLINE_EXCEEDED")


def line_too_long(wait_s: float, left_s: float) -> Overloaded:
    """It would not be answered in time."""
    return Overloaded(
        f"the server is behind: what is in line before this evaluation takes about {wait_s:.2f} s, and it has"
        f" {left_s:.2f} s left",
        reason="OVERLOADED",
        metadata={"wait_s": f"{wait_s:.3f}", "left_s": f"{left_s:.3f}"},
        retry_after_s=RETRY_AFTER_S,
    )


def device_gone(error: DeviceLost) -> GoingAway:
    """What every caller of the batch is told; what the device said is the log's."""
    log.critical("device lost", extra={"error": str(error)})
    return GoingAway(
        "the server's device is lost, and the server ends", reason=DEVICE_LOST, retry_after_s=DEVICE_LOST_RETRY_S
    )
