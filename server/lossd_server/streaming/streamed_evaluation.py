"""Streamed evaluation: an Open, blocks in order, an End. Pure: no thread, loop or clock."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import Any, Protocol

from lossd_server.admission.stream_budget import Reservation
from lossd_server.call.contract import Message
from lossd_server.engine.batcher import Waiting
from lossd_server.engine.finish import answer_of_parts
from lossd_server.errors import DeadlineOver, invalid
from lossd_server.jobs.job import Answer, Job
from lossd_server.jobs.partial_results import Carry, UnknownCarry
from lossd_server.streaming import responses
from lossd_server.streaming.open_request import OpenRequest
from lossd_server.tensors.request_fields import Fields


@dataclass(frozen=True, slots=True)
class Block:
    """Items that wait for those before them to be computed."""

    first: int
    job: Job
    charge: Reservation


@dataclass(frozen=True, slots=True)
class BlockOutcome:
    """A block's outcome: the message that answers it (empty where nothing was asked for), and what goes on."""

    body: Message
    carry: Carry
    queue_ns: int
    compute_ns: int


class BlockOwner(Protocol):
    """The session, as a block's answer sees it."""

    def block_computed(
        self, evaluation: StreamedEvaluation, block: Block, outcome: BlockOutcome | Exception
    ) -> None: ...


class StreamedEvaluation:
    """`charge` is of its Open's tensors. `at` is when it last went on, on time.monotonic.

    Blocks are computed one after the other, since each starts from what those before it came to: `block` is the one
    that is being computed, as `waiting`; `blocks` are those after it.
    """

    def __init__(self, evaluation_id: int, number: int, opening: OpenRequest, charge: Reservation, at: float) -> None:
        self.id = evaluation_id
        self.number = number
        self.opening = opening
        self.charge = charge
        self.at = at
        self.block: Block | None = None
        self.waiting: Waiting[Any] | None = None
        self.blocks: deque[Block] = deque()
        self.ended = False
        self._received = 0
        self._carry: Carry | UnknownCarry = opening.start
        self._queue_ns = 0
        self._compute_ns = 0

    @property
    def carry(self) -> Carry | UnknownCarry:
        """What the blocks so far came to."""
        return self._carry

    @property
    def stalled(self) -> bool:
        """Whether nothing can go on before the client sends more."""
        return self.block is None and not self.blocks and not self.ended

    @property
    def finished(self) -> bool:
        """Whether all has been computed, and the End is there."""
        return self.ended and self.block is None and not self.blocks

    @property
    def loss(self) -> str:
        """The RPC that it would be alone."""
        return self.opening.template.rpc

    def receive(self, first: int, fields: Fields) -> Job:
        """The next block's Job. Raises InvalidRequest."""
        if first != self._received:
            raise invalid(
                f"the block begins at item {first} (its first_item), but the next one is item {self._received}: blocks"
                " come in order, without gaps",
                "BLOCK_OUT_OF_ORDER",
                "first_item",
                first_item=first,
                expected=self._received,
            )
        job = self.opening.block(first, fields)
        some = next(iter(self.opening.streamed))
        self._received += fields[some].shape[0]
        return job

    def end(self) -> None:
        """Takes the End. Raises InvalidRequest where items are missing."""
        if self._received < self.opening.items:
            raise invalid(
                f"the evaluation is ended after {self._received} items, but it was opened with {self.opening.items}",
                "TOO_FEW_ITEMS",
                "",
                items=self._received,
                declared=self.opening.items,
            )
        self.ended = True

    def start(self) -> Block | None:
        """The block that is to be computed now, where there is one and none is being computed."""
        if self.block is not None or not self.blocks:
            return None
        self.block = self.blocks.popleft()
        return self.block

    def computed(self, block: BlockOutcome) -> None:
        self._carry = block.carry
        self._queue_ns += block.queue_ns
        self._compute_ns += block.compute_ns

    def answer(self) -> tuple[Answer, int, int, int]:
        """The whole's answer, its queue_ns, compute_ns and rows (elements)."""
        job = self.opening.template
        rows = job.layout.elements if job.formula.elementwise else job.layout.rows
        assert isinstance(self._carry, Carry)
        return answer_of_parts(job, self._carry), self._queue_ns, self._compute_ns, rows

    def abandon(self) -> None:
        """Gives everything back; what is being computed is not waited for."""
        if self.waiting is not None:
            self.waiting.abandon()
            self.waiting = None
        if self.block is not None:
            self.block.charge.drop()
            self.block = None
        while self.blocks:
            self.blocks.popleft().charge.drop()
        self.charge.drop()


def stalled(max_stream_idle_s: float) -> DeadlineOver:
    return DeadlineOver(
        f"nothing came for this evaluation for {max_stream_idle_s:g} s",
        reason="STREAM_STALLED",
        metadata={"max_stream_idle_s": max_stream_idle_s},
    )


class BlockReply:
    """A block that is being computed: what its outcome is given to (`replies.Reply`)."""

    __slots__ = ("_block", "_evaluation", "_session")

    def __init__(self, session: BlockOwner, evaluation: StreamedEvaluation, block: Block) -> None:
        self._session = session
        self._evaluation = evaluation
        self._block = block

    def done(self) -> bool:
        """Whether the evaluation was abandoned."""
        return self._evaluation.block is not self._block

    def set_result(self, result: BlockOutcome, /) -> None:
        self._session.block_computed(self._evaluation, self._block, result)

    def set_exception(self, exception: Exception, /) -> None:
        self._session.block_computed(self._evaluation, self._block, exception)


def block_form(
    evaluation_id: int, first: int, answer: Answer, queue_ns: int, compute_ns: int, requests: int, rows: int
) -> BlockOutcome:
    """What a block's answer becomes."""
    return BlockOutcome(responses.block(evaluation_id, first, answer), answer.carry, queue_ns, compute_ns)
