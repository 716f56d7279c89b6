"""Jobs cut into parts: the bits of the whole, however they are cut."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lossd.request import build as requests
from lossd.v1 import service_pb2 as service
from lossd.v1.loss_pb2 import GRADIENT_INPUT
from lossd_server.backends import Backend
from lossd_server.engine.chunked_job import ChunkedJob
from lossd_server.engine.evaluate import carry_of_parts, evaluate
from lossd_server.engine.finish import answer_of_parts
from lossd_server.errors import InvalidRequest, ServerError
from lossd_server.jobs.job import Answer, Job
from lossd_server.jobs.partial_results import join_parts, moved
from lossd_server.jobs.slicing import granularity, items, piece_items, slice_job
from lossd_server.losses import check
from lossd_server.wire import codec
from tests.conformance.cases import Asked, case
from tests.conformance.losses import LOSSES
from tests.conformance.values import DTYPES, EIGHT_BITS
from tests.losses.messages import tensor

LARGE = [(9001,), (300, 40), (17, 3, 400), (3, 5000), (40, 7, 3, 5), (9, 4100)]
SMALL = [(1,), (5,), (7, 5), (1, 4), (6, 3, 4), (4, 2, 2, 2), (33, 17), (12, 1)]


def job_of(asked: Asked) -> Job:
    """The validated job of a client's call."""
    call = requests.build(asked.method, *asked.tensors, **asked.options)
    return check(call.rpc, codec.decode_fields(call.rpc, call.body()))


def encoded(answer: Answer | ServerError) -> bytes:
    """All numbers of an answer, as they go out."""
    assert isinstance(answer, Answer), answer
    return codec.encode(answer, 0, 0, 0, 0)


def in_parts(backend: Backend, job: Job, cuts: list[int]) -> Answer | ServerError:
    """The answer of the parts between `cuts`, which begin with 0 and end with the number of items."""
    place = ChunkedJob(job, None, items(job)).job
    carry = carry_of_parts(place)
    if isinstance(carry, ServerError):
        return carry
    answers = []
    for first, stop in pairwise(cuts):
        (answer,) = evaluate(backend, [slice_job(place, first, stop - first)], [carry])
        if isinstance(answer, ServerError):
            return moved(answer, first)
        answers.append(answer)
        carry = answer.carry
    return answer_of_parts(job, carry, join_parts(place, answers))


@st.composite
def asked(draw: st.DrawFn) -> Asked:
    """A call of any loss, with any of its options, in any dtype."""
    loss = draw(st.sampled_from(sorted(LOSSES)))
    of = LOSSES[loss]
    option = draw(st.sampled_from(sorted(of.options)))
    reduction = draw(st.sampled_from(of.reductions))
    dtype = draw(st.sampled_from(sorted(DTYPES | EIGHT_BITS)))
    shape = draw(st.sampled_from(LARGE if of.elementwise else SMALL))
    return case(loss, option, reduction, dtype, shape).asked


@st.composite
def cut_points(draw: st.DrawFn, job: Job) -> list[int]:
    """0, some multiples of the granularity, the number of items."""
    step = granularity(job)
    inner = draw(st.lists(st.sampled_from(range(0, items(job), step)), max_size=6))
    return sorted({0, *inner, items(job)})


@settings(
    max_examples=600,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(data=st.data(), call=asked())
def test_any_cut_has_the_bits_of_the_whole(numba: Backend, data: st.DataObject, call: Asked) -> None:
    """Every loss, option, reduction and dtype, cut anywhere between items (chunks): the answer's very bytes."""
    job = job_of(call)
    cuts = data.draw(cut_points(job))

    assert encoded(in_parts(numba, job, cuts)) == encoded(evaluate(numba, [job])[0])


def test_a_weights_gradient_is_carried_on(backend: Backend) -> None:
    """Both backends add the class weights' gradient of a part to that of the parts before it."""
    rng = np.random.default_rng(1)
    x, t = rng.normal(size=(5, 6)).astype(np.float32), rng.uniform(size=(5, 6)).astype(np.float32)
    job = job_of(Asked("cross_entropy", (x, t), {"grad": ("weight",)}))

    assert encoded(in_parts(backend, job, [0, 1, 3, 5])) == encoded(evaluate(backend, [job])[0])


def test_a_row_along_dimension_0_is_one_item() -> None:
    """An input of one row, or whose rows lie along dimension 0, cannot be cut."""
    row = service.EntropyRequest(input=tensor(np.ones(8)))
    along = service.EntropyRequest(input=tensor(np.ones((8, 5))), dim=0)
    by_row = service.EntropyRequest(input=tensor(np.ones((8, 5, 3))), dim=2)

    counts = [
        items(check("Entropy", codec.decode_fields("Entropy", one.SerializeToString()))) for one in (row, along, by_row)
    ]
    assert counts == [1, 1, 8]


def test_pieces_keep_to_budget_and_granularity() -> None:
    """A piece is the most items within the budget, a multiple of the granularity, one step at least."""
    request = service.SelfInformationRequest(input=tensor(np.ones((4096, 16))))
    job = check("SelfInformation", codec.decode_fields("SelfInformation", request.SerializeToString()))

    assert granularity(job) == 256
    assert piece_items(job, 1 << 30) == 4096
    assert piece_items(job, 64 * 1000) == 768
    assert piece_items(job, 1) == 256


def test_parts_are_views() -> None:
    """A part shares the memory of its job: operands, broadcast weights, places for gradients."""
    request = service.BCERequest(
        input=tensor(np.full((6, 5000), 0.5)),
        target=tensor(np.full((6, 5000), 0.5)),
        weight=tensor(np.ones((6, 1))),
        gradients=[GRADIENT_INPUT],
    )
    job = ChunkedJob(check("BCE", codec.decode_fields("BCE", request.SerializeToString())), None, 2).job
    piece = slice_job(job, 2, 3)

    assert piece.weight is not None
    assert job.weight is not None
    assert piece.target is not None
    assert job.target is not None
    for mine, whole in (
        (piece.input.values, job.input.values),
        (piece.target.values, job.target.values),
        (piece.weight.values, job.weight.values),
        (piece.placed["input"], job.placed["input"]),
    ):
        assert np.shares_memory(mine, whole)
    assert piece.input.shape == (3, 5000)
    assert piece.weight.values.shape == (3,)


@pytest.mark.parametrize(
    ("place", "there"), [("target[2]", "target[702]"), ("target[2, 9]", "target[702, 9]"), ("row[0, 1]", "row[700, 1]")]
)
def test_indices_are_those_of_the_whole(place: str, there: str) -> None:
    """A refusal of a part names the index that the value has in the whole tensor."""
    error = InvalidRequest(f"{place} = 7 is outside", reason="R", field="target", metadata={"index": place, "value": 7})

    said = moved(error, 700)
    assert said.message == f"{there} = 7 is outside"
    assert said.metadata == {"index": there, "value": "7"}
    assert moved(error, 0) is error


def test_a_fault_in_a_later_part(numba: Backend) -> None:
    """A bad label or probability deep in a job is reported where it lies in the whole."""
    target = np.zeros(100, np.int64)
    target[71] = 9
    labels = Asked("cross_entropy", (np.zeros((100, 5), np.float32), target), {"reduction": "sum"})
    p = np.full((100, 5000), 0.5, np.float32)
    p[50, 3] = 2.0
    numbers = Asked("bce", (p, np.full_like(p, 0.5)), {})

    for call, cuts, said in (
        (labels, [0, 70, 100], "target[71] = 9"),
        (numbers, [0, 40, 60, 100], "input[50, 3] = 2"),
    ):
        refused: Any = in_parts(numba, job_of(call), cuts)
        assert isinstance(refused, InvalidRequest)
        assert refused.message.startswith(said)


def test_a_chunked_job_goes_through_the_items() -> None:
    """It gives every item once, in order."""
    cut = ChunkedJob(job_of(Asked("cross_entropy", (np.zeros((10, 3)), np.zeros(10, np.int64)))), None, 4)
    sizes = []
    while cut.left:
        one = cut.part()
        sizes.append((cut.first, one.layout.rows))
        cut.add(Answer(one, np.empty(()), None, None, None))

    assert sizes == [(0, 4), (4, 4), (8, 2)]
