"""State machine of an evaluation on a stream: its states, and what each message means in each of them. Pure."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from enum import Enum, auto
from typing import TypeAlias

from lossd_server.errors import RETRY_AFTER_S, InvalidRequest, Overloaded, invalid


class State(Enum):
    ABSENT = auto()  # never opened, or ended
    COMPLETE = auto()  # opened complete in itself, being computed
    OPEN = auto()  # takes blocks
    ENDED = auto()  # has its End; blocks are still being computed
    FAILED = auto()  # its client may not know yet


class Event(Enum):
    """The messages that name an evaluation."""

    OPEN = auto()
    BLOCK = auto()
    END = auto()


class Step(Enum):
    TAKE = auto()  # the message is taken
    PASS_OVER = auto()  # the client has not heard of the failure: nothing is said
    FORGET = auto()  # it has sent all that it meant to: the failure need not be remembered


# What happens: a step, or the refusal with which the evaluation fails. Takes its id.
Rule: TypeAlias = Step | Callable[[int], InvalidRequest]


def in_use(evaluation_id: int) -> InvalidRequest:
    return invalid(
        f"evaluation_id = {evaluation_id} is opened while it is in use: which of the two a block belongs to cannot be"
        " told, so neither goes on",
        "ID_IN_USE",
        "evaluation_id",
        evaluation_id=evaluation_id,
    )


def unknown(evaluation_id: int) -> InvalidRequest:
    return invalid(
        f"evaluation_id = {evaluation_id} is not open on this stream: it was never opened, or it has its answer",
        "NO_SUCH_EVALUATION",
        "evaluation_id",
        evaluation_id=evaluation_id,
    )


def not_streamed(evaluation_id: int) -> InvalidRequest:
    return invalid(
        f"evaluation_id = {evaluation_id} was opened with all its tensors: neither a block nor an end follows",
        "NOT_STREAMED",
        "evaluation_id",
        evaluation_id=evaluation_id,
    )


def after_end(evaluation_id: int) -> InvalidRequest:
    return invalid(
        f"the block is for evaluation_id = {evaluation_id}, which was ended before it",
        "BLOCK_AFTER_END",
        "evaluation_id",
        evaluation_id=evaluation_id,
    )


def second_end(evaluation_id: int) -> InvalidRequest:
    return invalid(
        f"evaluation_id = {evaluation_id} is ended a second time",
        "SECOND_END",
        "evaluation_id",
        evaluation_id=evaluation_id,
    )


def end_missing(evaluation_id: int) -> InvalidRequest:
    return invalid(
        f"the client has sent its last message, and evaluation_id = {evaluation_id} is still open: its End is missing",
        "END_MISSING",
        "evaluation_id",
        evaluation_id=evaluation_id,
    )


def too_many_opens(opens: int, bound: int) -> InvalidRequest:
    return invalid(
        f"the message has {opens} Opens, at most {bound} are taken", "TOO_MANY_OPENS", "opens", opens=opens, bound=bound
    )


def too_many_open(count: int, bound: int) -> Overloaded:
    return Overloaded(
        f"this stream has {count} evaluations open, at most {bound} are taken",
        reason="OVERLOADED",
        metadata={"open": count, "bound": bound},
        retry_after_s=RETRY_AFTER_S,
    )


RULES: Mapping[tuple[State, Event], Rule] = {
    (State.ABSENT, Event.OPEN): Step.TAKE,
    (State.ABSENT, Event.BLOCK): unknown,
    (State.ABSENT, Event.END): unknown,
    (State.COMPLETE, Event.OPEN): in_use,
    (State.COMPLETE, Event.BLOCK): not_streamed,
    (State.COMPLETE, Event.END): not_streamed,
    (State.OPEN, Event.OPEN): in_use,
    (State.OPEN, Event.BLOCK): Step.TAKE,
    (State.OPEN, Event.END): Step.TAKE,
    (State.ENDED, Event.OPEN): in_use,
    (State.ENDED, Event.BLOCK): after_end,
    (State.ENDED, Event.END): second_end,
    (State.FAILED, Event.OPEN): Step.TAKE,
    (State.FAILED, Event.BLOCK): Step.PASS_OVER,
    (State.FAILED, Event.END): Step.FORGET,
}
