"""Right requests of hostile values: any bits in any tensor end in an answer or in a sentence."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lossd.v1 import loss_pb2, service_pb2
from lossd.v1 import tensor_pb2 as pb
from lossd_server import losses
from lossd_server.backends import Backend
from lossd_server.engine.evaluate import evaluate
from lossd_server.errors import InvalidRequest
from lossd_server.jobs.job import Answer
from lossd_server.tensors.array import FLOATS, INTEGERS, STORAGE
from lossd_server.wire import codec
from tests.losses.checked import check

SHAPES = st.sampled_from([(1,), (3,), (4, 1), (3, 5), (2, 3, 2), (2, 17, 1, 3), (0, 3), (2, 0), (2, 3, 0)])
WIDE = st.sampled_from(sorted(FLOATS))
# Zeros, ones of every float dtype, NaN, denormals, and what comes.
BITS = st.sampled_from([b"\x00", b"\xff", b"\x00\x00\x80\x3f", b"\x00\x3c", b"\x01\x00\x00\x00"]) | st.binary(
    min_size=1
)


REDUCTIONS = {"KLDivergence": [0, 1, 2, 3, 4], "Activation": [0, 1]}
KINDS = {"Entropy": [0, 1, 3, 4], "CrossEntropy": [0, 1, 2, 3, 4], "KLDivergence": [0, 1, 2, 3, 4]}


@st.composite
def floats(draw: st.DrawFn, shape: tuple[int, ...]) -> pb.Tensor:
    return draw(of_bits(shape, draw(WIDE)))


@st.composite
def of_bits(draw: st.DrawFn, shape: tuple[int, ...], dtype: int) -> pb.Tensor:
    size = int(np.prod(shape)) * STORAGE[dtype].itemsize
    bits = draw(BITS)
    data = (bits * (size // len(bits) + 1))[:size]
    return pb.Tensor(dtype=dtype, shape=shape, data=data)  # type: ignore[arg-type]  # a plain int


@st.composite
def indices(draw: st.DrawFn, shape: tuple[int, ...]) -> pb.Tensor:
    """Classes, ignored rows, and now and then what is neither."""
    labels = draw(st.lists(st.sampled_from([0, 0, 1, 2, -100, 7]), min_size=1, max_size=4))
    dtype = draw(st.sampled_from(sorted(INTEGERS - {pb.DATA_TYPE_UINT8})))
    values = np.resize(np.array(labels, STORAGE[dtype]), shape)
    return pb.Tensor(dtype=dtype, shape=shape, data=values.tobytes())


@st.composite
def counts(draw: st.DrawFn, shape: tuple[int, ...]) -> pb.Tensor:
    """Mostly good, of integers or floats."""
    values = np.resize(draw(st.lists(st.integers(0, 100), min_size=1, max_size=5)), shape)
    dtype = draw(st.sampled_from([pb.DATA_TYPE_UINT8, pb.DATA_TYPE_INT64, pb.DATA_TYPE_FLOAT32, pb.DATA_TYPE_FLOAT64]))
    stored = values.astype(STORAGE[dtype])
    return pb.Tensor(dtype=dtype, shape=shape, data=stored.tobytes())


@st.composite
def requests(draw: st.DrawFn, rpc: str) -> Any:
    """A request of `rpc`, that a check takes or refuses for its target's counts."""
    shape = draw(SHAPES)
    axis = min(1, len(shape) - 1)
    rows = shape[:axis] + shape[axis + 1 :]
    reduction = draw(st.sampled_from(REDUCTIONS.get(rpc, [0, 1, 2, 3])))
    unreduced = reduction == 1 or (reduction == 0 and rpc in ("SelfInformation", "Activation"))
    fields: dict[str, Any] = {"input": draw(floats(shape)), "reduction": reduction}
    gradients = {"INPUT"}
    if rpc in ("BCE", "BCEWithLogits", "KLDivergence"):
        fields["target"] = draw(floats(shape))
        gradients |= {"TARGET"}
    elif rpc == "NLL" or (rpc == "CrossEntropy" and draw(st.booleans())):
        fields["target"] = draw(indices(rows))
    elif rpc == "CrossEntropy":
        fields["target"] = draw(floats(shape))
        gradients |= {"TARGET", "WEIGHT"}
    if rpc in KINDS:
        fields["kind"] = draw(st.sampled_from(KINDS[rpc]))
        if fields["kind"] == loss_pb2.KIND_COUNTS and draw(st.booleans()):
            fields["input"] = draw(counts(shape))
            gradients -= {"INPUT"}
    if "TARGET" in gradients and rpc in KINDS and draw(st.booleans()):
        fields["target_kind"] = draw(st.sampled_from([0, 3, 4] if rpc == "CrossEntropy" else [0, 1, 2, 3, 4]))
        if fields["target_kind"] == loss_pb2.KIND_COUNTS:
            fields["target"] = draw(counts(shape))
            gradients -= {"TARGET"}
    if rpc == "CrossEntropy":
        fields["label_smoothing"] = draw(st.sampled_from([0.0, 0.1, 1.0]))
        if fields["kind"] in (0, loss_pb2.KIND_LOGITS):
            fields["z_loss"] = draw(st.sampled_from([0.0, 1e-4, 1e300]))
            fields["softcap"] = draw(st.sampled_from([None, 30.0, 1e-300, 1e300]))
            fields["outputs"] = draw(st.sampled_from([[], [1, 2, 3], [2, 2], [3]]))
    if rpc in ("CrossEntropy", "NLL") and draw(st.booleans()):
        fields["weight"] = draw(floats((shape[axis],)))
    if rpc in ("BCE", "BCEWithLogits") and draw(st.booleans()):
        fields["weight"] = draw(floats(draw(st.sampled_from([(), shape[-1:], shape]))))
    if rpc in ("CrossEntropy", "Entropy") and draw(st.booleans()):
        fields["row_weight"] = draw(floats(rows))
    if rpc == "Activation":
        fields["function"] = draw(st.sampled_from([0, 1, 2, 3, 4]))
    if draw(st.booleans()):
        own = rows if rpc in ("CrossEntropy", "Entropy", "NLL") else shape
        fields["grad_output"] = draw(floats(own if unreduced else ()))
    asked = draw(st.sets(st.sampled_from(sorted(gradients)))) if gradients else set()
    return getattr(service_pb2, rpc + "Request")(gradients=["GRADIENT_" + name for name in sorted(asked)], **fields)


@pytest.mark.parametrize("rpc", sorted(losses.SERVED))
@settings(max_examples=150, deadline=None)
@given(data=st.data())
def test_a_right_request_ends_in_an_answer_or_a_sentence(numba: Backend, rpc: str, data: st.DataObject) -> None:
    """It passes the check; its values give an answer of the size foretold, or are refused by name."""
    request = data.draw(requests(rpc))
    try:
        job = check(rpc, request)
    except InvalidRequest as refused:
        beyond_float32 = refused.reason == "OPTION_OUT_OF_RANGE" and refused.metadata.get("dtype") == "float32"
        assert beyond_float32 or refused.reason in ("NEGATIVE_COUNT", "EMPTY_COUNTS")
        assert beyond_float32 or refused.field == "target"
        return

    (answer,) = evaluate(numba, [job])

    if isinstance(answer, Answer):
        body = codec.encode(answer, 0, 0, 1, 0)
        assert 0 <= codec.response_bytes(job) - len(body) <= 77
    else:
        assert isinstance(answer, InvalidRequest)
        assert answer.field in ("input", "target") or "multiplied by" in answer.message
