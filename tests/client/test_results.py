"""A result as a number, an array and a text."""

from __future__ import annotations

import pickle
from typing import Any

import numpy as np
import pytest
import torch

import lossd
from lossd import results
from lossd.request.build import build

SUMMARY, TIMING = lossd.Summary(3.0, 2.0, 2), lossd.Timing(0.0, 0.0, 1, 2, 0.1)


def result(loss: Any, **others: Any) -> lossd.Result:
    return lossd.Result(np.asarray(loss), SUMMARY, TIMING, **others)


SCALAR = result(np.float32(1.42687321))
ROWS = result(np.linspace(0, 1, 1000))


@pytest.mark.parametrize("loss", [1.5, [1.5], [[1.5]]])
def test_a_scalar_loss_is_a_number(loss: Any) -> None:
    """In any number of dimensions, as numpy's own."""
    assert float(result(loss)) == result(loss).item() == 1.5
    assert type(result(loss).item()) is float


@pytest.mark.parametrize("use", [float, lossd.Result.item, "{:.3f}".format])
def test_losses_by_row_are_no_number(use: Any) -> None:
    """The sentence says which shape they have."""
    with pytest.raises(TypeError, match=r"the loss has shape \(1000,\): only a scalar one is a float"):
        use(ROWS)


def test_a_scalar_loss_is_formatted_as_a_number() -> None:
    """Every format of a float; without one, its text."""
    assert f"{SCALAR:.6f} {SCALAR:>8.2e} {SCALAR:.1%}" == "1.426873 1.43e+00 142.7%"
    assert f"{SCALAR}" == str(SCALAR) == repr(SCALAR)


def test_numpy_takes_a_result_for_its_loss() -> None:
    """Without a copy, where none is needed."""
    assert np.asarray(ROWS) is ROWS.loss
    assert np.mean(ROWS) == ROWS.loss.mean()
    assert np.isclose(SCALAR, 1.426873)
    assert np.stack([SCALAR, SCALAR]).shape == (2,)


def test_numpy_may_ask_for_a_copy_or_a_dtype() -> None:
    """As numpy 2 asks, and as numpy 1 does, which names no copy."""
    copied, cast = np.array(ROWS), np.asarray(SCALAR, np.float64)

    assert copied is not ROWS.loss
    assert not np.shares_memory(copied, ROWS.loss)
    assert cast.dtype == np.float64
    assert float(cast) == float(SCALAR)
    assert SCALAR.__array__() is SCALAR.loss
    assert SCALAR.__array__(np.float32) is SCALAR.loss
    assert SCALAR.__array__(np.dtype("float64")).dtype == np.float64
    assert SCALAR.__array__(None, copy=False) is SCALAR.loss
    with pytest.raises(ValueError, match="the loss is float32: as float64 it must be copied"):
        SCALAR.__array__(np.float64, copy=False)


def test_a_text_is_short_whatever_is_in_it() -> None:
    """Loss, shape, and of arrays only the shapes."""
    full = result(
        1.5,
        grads={"input": np.zeros((2, 3)), "target": torch.zeros(4000)},
        outputs={"argmax": np.zeros(2, np.int64)},
    )

    assert repr(SCALAR) == "Result(loss=1.4268732, shape=())"
    assert repr(ROWS) == "Result(loss=float64, shape=(1000,))"
    assert repr(full) == "Result(loss=1.5, shape=(), grads={input: (2, 3), target: (4000,)}, outputs={argmax: (2,)})"


def test_a_result_survives_pickling() -> None:
    """It crosses process pools."""
    copy = pickle.loads(pickle.dumps(result(1.5, grads={"input": np.ones(2)})))

    assert float(copy) == 1.5
    assert copy.grad.tolist() == [1, 1]
    assert (copy.summary, copy.timing) == (SUMMARY, TIMING)


def test_a_result_is_of_the_kind_of_its_gradient() -> None:
    """For annotations: they cost nothing at run time."""
    assert lossd.Result[None].__name__ == "Result"
    assert SCALAR.grad is None


def test_an_answer_that_is_no_message_is_an_error_of_ours() -> None:
    """Whatever the transport: never protobuf's own exception."""
    call = build("entropy", np.full(2, 0.5))

    with pytest.raises(lossd.InternalError, match="the answer of 3 bytes is malformed"):
        results.read_result(call, b"\x0a\xff\xff")
