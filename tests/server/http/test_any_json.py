"""Whatever JSON, or anything else, comes: an answer, or a refusal that says what is wrong with it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lossd.v1 import tensor_pb2
from lossd_server.errors import InvalidRequest
from lossd_server.http.json.request import read_request, taken_names
from lossd_server.http.json.tensors import CHUNK, read_tensor, write_tensor
from lossd_server.inference.models import MODELS
from tests.server.http.serving_http import post
from tests.server.metrics.test_workers import url_of
from tests.server.server_process import process

LEAVES = (
    st.none()
    | st.booleans()
    | st.integers(-(2**70), 2**70)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.sampled_from(["NaN", "Infinity", "mean", "logits", "input", "é", "base64"])
)
VALUES = st.recursive(
    LEAVES,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["dtype", "shape", "data", "values"]), inner, max_size=3)
    ),
    max_leaves=12,
)
NAMES = st.sampled_from(sorted({name for model in MODELS.values() for name in taken_names(model)} | {"x"}))
LOSSES = st.sampled_from(sorted(MODELS))


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    """Of a process of its own: hypothesis wants nobody else to take random numbers here."""
    with process("--listen", "127.0.0.1:0", "--http", "0") as (child, _):
        yield url_of(child)


@given(loss=LOSSES, body=st.dictionaries(NAMES, VALUES, max_size=6))
@settings(max_examples=150)
def test_any_request(loss: str, body: dict[str, Any], url: str) -> None:
    """200, or 400 with a reason: never a fault of the server's."""
    reply = post(f"{url}/v1/losses/{loss}", json.dumps(body).encode(), {})

    assert reply.status in (200, 400), reply.text
    assert reply.status == 200 or reply.error["reason"]


@given(st.binary(max_size=200))
def test_any_bytes(raw: bytes) -> None:
    """A request of a message, or InvalidRequest; nothing else is raised."""
    try:
        assert isinstance(json.loads(raw), dict)
    except (ValueError, AssertionError):
        with pytest.raises(InvalidRequest):
            read_request(MODELS["bce"], raw)


NUMBERS = st.floats(width=32) | st.sampled_from([float("nan"), float("inf"), -float("inf"), -0.0])


@given(st.lists(NUMBERS, min_size=6, max_size=6), st.sampled_from([(6,), (2, 3), (3, 2, 1), (1, 6), (6, 1)]))
def test_numbers_come_back(values: list[float], shape: tuple[int, ...]) -> None:
    """What is written is read as the same bits."""
    array = np.array(values, np.float32).reshape(shape)
    tensor = tensor_pb2.Tensor(dtype=tensor_pb2.DATA_TYPE_FLOAT32, shape=shape, data=array.tobytes())
    read = read_tensor("x", json.loads("".join(write_tensor(tensor, "numbers"))), lambda _: tensor.dtype)

    assert read.shape == shape
    assert np.array_equal(np.frombuffer(read.data, "<f4").reshape(shape), array, equal_nan=True)
    described = json.loads("".join(write_tensor(tensor, "base64")))
    assert bytes(read_tensor("x", described, lambda _: 0).data) == array.tobytes()


@pytest.mark.parametrize("size", [0, 1, CHUNK - 1, CHUNK, CHUNK + 1, 2 * CHUNK + 1])
def test_long_rows_are_written_in_pieces(size: int) -> None:
    """Each of CHUNK numbers at most, and together the whole."""
    array = np.arange(float(size))
    tensor = tensor_pb2.Tensor(dtype=tensor_pb2.DATA_TYPE_FLOAT64, shape=(size,), data=array.tobytes())
    pieces = list(write_tensor(tensor, "numbers"))

    assert json.loads("".join(pieces)) == array.tolist()
    assert max(piece.count(".") for piece in pieces) <= CHUNK


@pytest.mark.parametrize("shape", [(0,), (2, 0), (0, 3), ()])
def test_empty_lists_and_one_number(shape: tuple[int, ...]) -> None:
    """Shapes of no elements, and of no dimensions."""
    array = np.zeros(shape)
    tensor = tensor_pb2.Tensor(dtype=tensor_pb2.DATA_TYPE_FLOAT64, shape=shape, data=array.tobytes())

    assert json.loads("".join(write_tensor(tensor, "numbers"))) == array.tolist()
    if 0 not in shape[:-1]:  # a list of no lists has lost what they are
        assert read_tensor("x", array.tolist(), lambda _: tensor.dtype).shape == shape
