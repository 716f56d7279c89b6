"""Answers of one layout, and of others."""

from __future__ import annotations

import pickle
from dataclasses import FrozenInstanceError
from functools import partial
from typing import Any

import numpy as np
import pytest

import lossd
from lossd import results, wire
from lossd.fast_path.answer_template import AnswerTemplate, learn
from lossd.request.build import build
from lossd.v1 import loss_pb2, service_pb2
from lossd.v1 import tensor_pb2 as pb
from tests.client.fast_path.alike import outcome, told

CALL = build("entropy", np.full((2, 2), 0.5, np.float32))


def answer(loss: float = 1.5, **others: Any) -> Any:
    """Without a Timing unless one is given."""
    tensor = pb.Tensor(dtype=pb.DATA_TYPE_FLOAT32, data=np.float32(loss).tobytes())
    return service_pb2.EntropyResponse(loss=tensor, summary=loss_pb2.Summary(loss_sum=loss, count=300), **others)


def learned(response: Any) -> AnswerTemplate | None:
    return learn(CALL, response.SerializeToString(), response)


def read(body: bytes) -> Any:
    return told(results.read_result(CALL, body, 1.0))


@pytest.mark.parametrize("timing", [None, loss_pb2.Timing(), loss_pb2.Timing(queue_ns=1 << 40, batch_rows=7)])
def test_an_answer_that_is_cut_off_is_malformed(timing: Any) -> None:
    """Wherever it is cut: no rest is taken for a shorter Summary or Timing."""
    response = answer(timing=timing)
    body, template = response.SerializeToString(), learned(response)
    assert template is not None
    for size in range(len(body)):
        expected = outcome(partial(read, body[:size]))
        found = template.read(body[:size], 1.0)

        assert found is None or told(found) == expected


@pytest.mark.parametrize(
    ("name", "changed"),
    [
        ("another dtype", answer().loss.__class__(dtype=pb.DATA_TYPE_FLOAT64, data=bytes(8))),
        ("another shape", answer().loss.__class__(dtype=pb.DATA_TYPE_FLOAT32, shape=[1], data=bytes(4))),
    ],
)
def test_an_answer_of_another_layout_is_left_to_the_general_way(name: str, changed: Any) -> None:
    """As from a server of another version behind the same address."""
    template = learned(answer())
    assert template is not None
    other = answer()
    other.loss.CopyFrom(changed)

    assert template.read(other.SerializeToString(), 1.0) is None
    assert learned(other) is not None


def test_fields_in_another_order_are_left_to_the_general_way() -> None:
    """The loss last: it is valid, and no server of ours writes it."""
    body, loss = answer().SerializeToString(), wire.message_field(1, answer().loss.SerializeToString())
    odd = body.removeprefix(loss) + loss

    assert results.read_result(CALL, odd).loss == 1.5
    assert learn(CALL, odd, answer()) is None


def test_a_field_that_is_repeated_counts_as_ever() -> None:
    """The last loss is the one that is meant, although the first is where it always was."""
    template, body = learned(answer()), answer().SerializeToString()
    assert template is not None
    twice = body + answer(2.5).SerializeToString()

    assert results.read_result(CALL, twice).loss == 2.5
    assert template.read(twice, 1.0) is None


def test_a_large_answer_has_no_template() -> None:
    """Its elements are copied once by the general way."""
    response = answer()
    response.loss.CopyFrom(pb.Tensor(dtype=pb.DATA_TYPE_FLOAT32, shape=[1 << 14], data=bytes(1 << 16)))

    assert learned(response) is None


def test_what_is_read_is_as_frozen_as_ever() -> None:
    """And pickled, compared and hashed as what the constructors make."""
    response = answer(timing=loss_pb2.Timing(compute_ns=5))
    template = learned(response)
    assert template is not None
    result = template.read(response.SerializeToString(), 1.0)
    assert result is not None

    assert result.summary == lossd.Summary(1.5, 0.0, 300)
    assert hash(result.timing) == hash(lossd.Timing(0.0, 5e-9, 0, 0, 1.0))
    assert told(pickle.loads(pickle.dumps(result)))[:4] == told(result)[:4]
    for one, name in [(result, "loss"), (result.summary, "count"), (result.timing, "total_s")]:
        with pytest.raises(FrozenInstanceError):
            setattr(one, name, 1)
