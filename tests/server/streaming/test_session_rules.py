"""The table of what messages mean for an evaluation."""

from __future__ import annotations

from itertools import product

from lossd_server.errors import InvalidRequest
from lossd_server.streaming.session_rules import RULES, Event, State, Step


def test_every_message_means_something_in_every_state() -> None:
    """The table is complete."""
    assert set(RULES) == set(product(State, Event))


def test_refusals_say_what_they_are() -> None:
    """Each refusal has a reason of its own kind; what is passed over, or forgotten, is of an evaluation that failed."""
    reasons = {}
    for (state, event), rule in RULES.items():
        if not isinstance(rule, Step):
            error = rule(7)
            assert isinstance(error, InvalidRequest)
            assert "evaluation_id = 7" in error.message
            reasons[state, event] = error.reason
        elif rule is not Step.TAKE:
            assert state is State.FAILED

    assert reasons == {
        (State.ABSENT, Event.BLOCK): "NO_SUCH_EVALUATION",
        (State.ABSENT, Event.END): "NO_SUCH_EVALUATION",
        (State.COMPLETE, Event.OPEN): "ID_IN_USE",
        (State.COMPLETE, Event.BLOCK): "NOT_STREAMED",
        (State.COMPLETE, Event.END): "NOT_STREAMED",
        (State.OPEN, Event.OPEN): "ID_IN_USE",
        (State.ENDED, Event.OPEN): "ID_IN_USE",
        (State.ENDED, Event.BLOCK): "BLOCK_AFTER_END",
        (State.ENDED, Event.END): "SECOND_END",
    }
