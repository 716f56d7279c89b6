"""Whole calls: small calls in one piece, of any connection, gathered for a turn of the loop and answered together.

No task is made for them, and nothing of them waits. What cannot be answered so is handled as any call.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Sequence
from itertools import islice
from typing import NamedTuple, Protocol

from lossd_server.call.contract import AnswerAtOnce, WholeCall
from lossd_server.front.http2.call_stream import CallStream
from lossd_server.front.http2.headers.request_head import RequestHead

log = logging.getLogger(__name__)

# Of one turn, which takes 0.1 to 0.5 ms.
MOST_CALLS = 64


def most_answer(message_bytes: int) -> int:
    """Bytes that the answer to a small message may have: losses and gradients in wider dtypes, and what is around."""
    return 4 * message_bytes + 4096


class CallOwner(Protocol):
    """The connection of a whole call."""

    def answer_whole(self, stream: CallStream, answer: bytes) -> None: ...

    def begin_call(self, stream: CallStream, head: RequestHead) -> None: ...

    def flush(self) -> None: ...


class Gathered(NamedTuple):
    owner: CallOwner
    stream: CallStream
    head: RequestHead
    message: bytes


class WholeCalls:
    """Of all connections of a front."""

    def __init__(self, answer: AnswerAtOnce) -> None:
        self._answer = answer
        self._waiting: deque[Gathered] = deque()
        self._loop = asyncio.get_running_loop()

    def add(self, owner: CallOwner, stream: CallStream, head: RequestHead, message: bytes) -> None:
        if not self._waiting:
            self._loop.call_soon(self._take_turn)
        self._waiting.append(Gathered(owner, stream, head, message))

    def _take_turn(self) -> None:
        waiting = self._waiting
        taken = list(islice(waiting, MOST_CALLS))
        answers = self._answers(taken)
        if len(answers) == len(waiting):
            waiting.clear()
        else:
            for _ in answers:
                waiting.popleft()
            self._loop.call_soon(self._take_turn)
        owners = set()
        for (owner, stream, head, _), answer in zip(taken, answers, strict=False):
            if answer is None:
                owner.begin_call(stream, head)
            else:
                owner.answer_whole(stream, answer)
                owners.add(owner)
        for owner in owners:
            owner.flush()

    def _answers(self, taken: list[Gathered]) -> Sequence[bytes | None]:
        try:
            return self._answer([WholeCall(one.head.method, one.head.metadata, one.message) for one in taken])
        except Exception as error:  # no memory: the way that any call goes says so to those whom it hits
            log.warning("calls cannot be answered together", extra={"error": repr(error)})
            return [None] * len(taken)
