"""Whole calls: small calls in one piece, of any connection, gathered for a turn of the loop and answered together.

No task is made for them, and nothing of them waits. What cannot be answered so is handled as any call. Where there are
more than a turn takes, connections take turns: one that sends many costs the others no more than its share.
"""

from __future__ import annotations

import asyncio
import logging
from collections import OrderedDict, deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from lossd_server.call.contract import AnswerAtOnce, WholeCall
from lossd_server.front.http2.call_stream import CallStream
from lossd_server.front.http2.headers.request_head import RequestHead

log = logging.getLogger(__name__)

# Of one turn, which takes 0.1 to 0.5 ms.
MOST_CALLS = 64
# That a call waits for its message before it is begun: some microseconds each.
MESSAGE_TURNS = 2


def most_answer(message_bytes: int) -> int:
    """Bytes that the answer to a small message may have: losses and gradients in wider dtypes, and what is around."""
    return 4 * message_bytes + 4096


class CallOwner(Protocol):
    """The connection of a whole call. subject: of its client's verified certificate, or "". peer: for logs."""

    subject: str
    peer: str

    def takes(self, stream: CallStream, message_bytes: int) -> bool: ...

    def answer_whole(self, stream: CallStream, answer: bytes) -> None: ...

    def begin_call(self, stream: CallStream, head: RequestHead) -> None: ...

    def flush(self) -> None: ...


@dataclass(slots=True)
class Gathered:
    """turns: that it may wait for its message."""

    owner: CallOwner
    stream: CallStream
    head: RequestHead
    message: bytes = b""
    turns: int = MESSAGE_TURNS


class WholeCalls:
    """Of all connections of a front."""

    def __init__(self, answer: AnswerAtOnce) -> None:
        self._answer = answer
        self._begun: list[Gathered] = []  # their messages are looked for in the next turn
        # In the order of their turns; none is empty.
        self._lines: OrderedDict[CallOwner, deque[Gathered]] = OrderedDict()
        self._first: list[Gathered] = []  # come before those: there was no time for them in the last turn
        self._waiting = 0
        self._loop = asyncio.get_running_loop()

    def __len__(self) -> int:
        """Calls that have neither been answered nor handed to their handlers."""
        return len(self._begun) + self._waiting

    def add(self, owner: CallOwner, stream: CallStream, head: RequestHead) -> None:
        """A call of which nothing has come but its head, or all."""
        if not self._begun and not self._waiting:
            self._loop.call_soon(self._take_turn)
        self._begun.append(Gathered(owner, stream, head))

    def _take_turn(self) -> None:
        self._find_messages()
        taken = self._taken()
        answers = self._answers(taken) if taken else ()
        self._first = taken[len(answers) :]
        self._waiting -= len(answers)
        if self._waiting or self._begun:
            self._loop.call_soon(self._take_turn)
        owners = set()
        for one, answer in zip(taken, answers, strict=False):
            if answer is None:
                one.owner.begin_call(one.stream, one.head)
            else:
                one.owner.answer_whole(one.stream, answer)
                owners.add(one.owner)
        for owner in owners:
            owner.flush()

    def _taken(self) -> list[Gathered]:
        """The calls of this turn."""
        taken, lines = self._first, self._lines
        while lines and len(taken) < MOST_CALLS:
            owner, line = lines.popitem(last=False)
            if not lines:  # nobody else waits
                while line and len(taken) < MOST_CALLS:
                    taken.append(line.popleft())
            else:
                taken.append(line.popleft())
            if line:
                lines[owner] = line
        return taken

    def _find_messages(self) -> None:
        """Some clients send the heads of many calls, and then their messages: those are here a turn later."""
        begun, self._begun = self._begun, []
        for one in begun:
            reader = one.stream.reader
            message = reader.only
            if message is not None and one.owner.takes(one.stream, len(message)):
                one.message = message
                self._waiting += 1
                line = self._lines.get(one.owner)
                if line is None:
                    line = self._lines[one.owner] = deque()
                line.append(one)
            elif one.turns and not reader.has_begun:
                one.turns -= 1
                self._begun.append(one)
            else:
                one.owner.begin_call(one.stream, one.head)

    def _answers(self, taken: list[Gathered]) -> Sequence[bytes | None]:
        try:
            return self._answer(
                [WholeCall(one.head.method, one.head.metadata, one.message, one.owner) for one in taken]
            )
        except Exception as error:  # no memory: the way that any call goes says so to those whom it hits
            log.warning("calls cannot be answered together", extra={"error": repr(error)})
            return [None] * len(taken)
