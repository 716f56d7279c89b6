"""What the client foretells of a request, against what the server finds in it: tables that mirror each other."""

from __future__ import annotations

import numpy as np
import pytest

from lossd import contract
from lossd.request.build import METHODS, build
from lossd.routing import block_plan
from lossd.rpc.server_limits import MessageLimits
from lossd.v1 import loss_pb2
from lossd_server import losses
from lossd_server.errors import ServerError
from lossd_server.jobs.job import RUN, Job, Reduction
from lossd_server.jobs.slicing import granularity, items
from lossd_server.wire import codec
from tests.conformance.cases import Case, every_option
from tests.conformance.losses import LOSSES

LIMITS = MessageLimits(16 << 20, 16 << 20, RUN)


CASES = [case for loss in LOSSES for case in every_option(loss)]


def job_of(case: Case) -> Job:
    call = build(case.asked.method, *case.asked.tensors, **case.asked.options)
    return losses.check(call.rpc, codec.decode_fields(call.rpc, call.body()))


@pytest.mark.parametrize("case", CASES, ids=str)
def test_rows_and_reductions_are_the_servers(case: Case) -> None:
    """Where rows lie, whether one number comes back, and how many bytes at most."""
    call, job = build(case.asked.method, *case.asked.tensors, **case.asked.options), job_of(case)
    axis, shape = block_plan.row_axis(call), job.input.shape

    assert (axis is None) == job.formula.elementwise
    if axis is not None:
        assert shape[axis] == job.layout.classes
    assert block_plan.is_reduced(call) == (job.reducing.reduction is not Reduction.NONE and not job.formula.activation)
    assert block_plan.answer_bytes(call) >= codec.response_bytes(job)


@pytest.mark.parametrize("case", CASES, ids=str)
def test_blocks_are_the_servers_items(case: Case) -> None:
    """A call that is cut has the server's items, in multiples of its granularity; one row is not cut."""
    call, job = build(case.asked.method, *case.asked.tensors, **case.asked.options), job_of(case)
    plan = block_plan.plan_blocks(call, LIMITS)

    if isinstance(plan, block_plan.BlockPlan):
        assert plan.items == items(job)
        assert plan.step % granularity(job) == 0
    else:
        assert items(job) == 1 or len(job.input.shape) == 1


def test_methods_are_the_losses() -> None:
    """The client has a method for every loss that is served, and no other."""
    assert {method.rpc for method in METHODS.values()} == set(losses.SERVED)


@pytest.mark.parametrize("request_name, option", contract.KINDS)
def test_kinds_are_those_that_the_server_takes(request_name: str, option: str) -> None:
    """A kind that the client offers for an option is taken by the server, and every other is not."""
    rpc = request_name.removesuffix("Request")
    words = contract.value_names(loss_pb2.Kind.DESCRIPTOR)
    method = next(name for name, one in METHODS.items() if one.rpc == rpc)
    call = build(method, *[np.ones((2, 2))] * len(METHODS[method].tensors))
    taken = set()
    for kind, word in words.items():
        request = call.request
        setattr(request, option, kind)
        refused = None
        try:
            losses.check(rpc, codec.decode_fields(rpc, request.SerializeToString()))
        except ServerError as error:  # of another kind: ones are no class indices
            refused = error
        if refused is None or refused.reason != "OPTION_NOT_TAKEN":
            taken.add(word)

    assert taken == set(contract.KINDS[request_name, option])
