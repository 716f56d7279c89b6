"""Evaluations of a stream: calls that wait to be sent, or for their end."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lossd.errors import Error, InternalError
from lossd.fast_path.request_template import Form, RequestTemplate
from lossd.options import Progress
from lossd.results import Result
from lossd.streaming.block_messages import Part, open_head

if TYPE_CHECKING:
    from lossd.routing.block_plan import BlockPlan
    from lossd.routing.route import Route
    from lossd.rpc.retry import Retry


class SmallEvaluation:
    """A call that goes whole, its numbers taken when it is made. outcome: its end, None before.

    form: what reads its answer. parts: of its request and the request's head, together of `size` bytes. nbytes: of its
    tensors. refusals: how often it was refused and is sent again.
    """

    __slots__ = ("form", "nbytes", "outcome", "parts", "refusals", "size", "start_s")

    # What only an `Evaluation` can be: cut into blocks, or impossible to send again.
    cut: BlockPlan | None = None
    spent = False
    reads_file = False

    def __init__(self, form: Form, parts: list[Part], start_s: float) -> None:
        """parts: of its request, the first of them empty."""
        if type(form) is RequestTemplate:
            head = parts[0] = form.open_head
            self.size = len(head) + form.body_bytes
        else:
            size = sum(map(len, parts))
            head = parts[0] = open_head(form.rpc, size)
            self.size = len(head) + size
        self.form = form
        self.parts = parts
        self.nbytes = form.nbytes
        self.start_s = start_s
        self.outcome: Result | Error | None = None
        self.refusals = 0

    def result(self) -> Result:
        """Raises the Error that it ended with."""
        assert self.outcome is not None
        if isinstance(self.outcome, Error):
            raise self.outcome
        return self.outcome

    def ended(self) -> None:
        """Nothing is to be done about it any more."""


class Evaluation(SmallEvaluation):
    """A call by any route. retry: the time in which the server must come to know its memory, once it did not."""

    __slots__ = ("call", "cut", "progress", "retry", "route", "spent")

    def __init__(self, route: Route, start_s: float, progress: Progress | None = None) -> None:
        self.start_s = start_s
        self.progress = progress
        self.refusals = 0
        self.retry: Retry | None = None
        self.spent = False  # gradients have overwritten a part of its tensor: it cannot be sent again
        self.take(route)

    def take(self, route: Route) -> None:
        """Goes, or goes again, by that route."""
        self.route = route
        self.form = self.call = route.call
        self.cut = route.cut
        self.nbytes = route.call.nbytes
        self.outcome = None
        self.parts = []

    def read_now(self) -> None:
        """Takes what it sends, where it goes whole: the caller may change its arrays from now on."""
        if self.cut is None:
            body = self.call.body()
            head = open_head(self.call.rpc, len(body))
            self.parts, self.size = [head, body], len(head) + len(body)

    @property
    def reads_file(self) -> bool:  # type: ignore[override]  # of others it is known
        """Whether its blocks are read from a file that is mapped into memory."""
        return self.cut is not None and self.call.is_mapped

    def ended(self) -> None:
        """Its memory, where it is shared, is given back, or up where its end was not heard."""
        if not isinstance(self.outcome, Result):
            self.route.ended(self.outcome or InternalError("the evaluation was given up"))
        else:
            self.route.ended(None)
