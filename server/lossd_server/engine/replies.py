"""Replies: what a job's answer is given to."""

from __future__ import annotations

import logging
from typing import Any, Protocol

from lossd_server.engine.batcher import Waiting
from lossd_server.errors import out_of_memory

log = logging.getLogger(__name__)


class Reply(Protocol):
    """What an answer is given to, on the event loop's thread: an asyncio.Future is one."""

    def done(self) -> bool:
        """Whether nobody waits for it any more."""

    def set_result(self, result: Any, /) -> None: ...

    def set_exception(self, exception: Exception, /) -> None: ...


# The answer's bytes (or what `Waiting.form` makes of it), or what went wrong; None: parts are left.
Outcome = Any


def give_reply(waiting: Waiting[Reply], outcome: Outcome) -> None:
    waiting.abandon()  # lets go of the job
    reply = waiting.reply
    if reply.done():  # cancelled while it was computed
        return
    try:
        if isinstance(outcome, Exception):
            reply.set_exception(outcome)
        else:
            reply.set_result(outcome)
    except MemoryError:  # the others of its batch have their answers
        log.warning("no memory to give an answer")
        if not reply.done():
            reply.set_exception(out_of_memory())
