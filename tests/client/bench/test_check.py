"""The requests of `lossd bench` and what they must answer."""

from __future__ import annotations

from dataclasses import replace
from itertools import islice
from typing import Any

import numpy as np
import pytest

import lossd
from lossd.bench.check import Expected
from lossd.bench.float64 import closed_form
from lossd.bench.workload import DTYPES, LOSSES, Mix, Request, order, requests
from lossd.results import Result
from tests.oracle import REFERENCES

SHAPES = ((3, 5), (7,), (2, 4, 3), (1, 1))


def same(actual: Any, exact: Any) -> None:
    """12 digits of numbers of 50."""
    np.testing.assert_allclose(actual, np.asarray(exact, object).astype(np.float64), rtol=1e-12, atol=1e-15)


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("reduction", ["none", "mean", "sum"])
@pytest.mark.parametrize("loss", LOSSES)
def test_float64_is_right(loss: str, reduction: str, shape: tuple[int, ...]) -> None:
    """Loss and gradient are those of the oracle in 50 digits."""
    (request, *_) = requests(Mix(loss=loss, shapes=(shape,), reduction=reduction, dtype="float64"))

    target = request.operands[1] if len(request.operands) > 1 else None
    value, gradient = closed_form(loss, request.operands[0], target, reduction)
    exact = REFERENCES[loss](*request.operands, reduction=reduction)
    same(value, exact.loss)
    same(gradient, exact.grads["input"])


def test_batchmean_divides_by_the_items() -> None:
    """Of dimension 0, whatever the others are."""
    (request, *_) = requests(Mix(loss="kl_divergence", shapes=((4, 6),), dtype="float64"))

    input, target = request.operands
    total, slopes = closed_form("kl_divergence", input, target, "sum")
    mean, gradient = closed_form("kl_divergence", input, target, "batchmean")
    assert float(mean) == pytest.approx(float(total) / 4)
    np.testing.assert_allclose(gradient, slopes / 4)


def test_confident_rows_keep_their_digits() -> None:
    """A gap of 40 between the logits: −log p is e⁻⁴⁰, where 1 − p in float64 is 0."""
    value, gradient = closed_form("cross_entropy", np.array([[40.0, 0.0]]), np.array([0]), "mean")

    assert float(value) == pytest.approx(np.exp(-40), rel=1e-12)
    np.testing.assert_allclose(gradient, [[-np.exp(-40), np.exp(-40)]], rtol=1e-12)


def test_rows_in_blocks_are_the_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever a block holds: large inputs are taken in several."""
    (request, *_) = requests(Mix(shapes=((9, 5),)))
    input, target = request.operands
    whole = closed_form("cross_entropy", input, target, "none")
    monkeypatch.setattr("lossd.bench.float64._BLOCK", 10)

    parts = closed_form("cross_entropy", input, target, "none")
    assert all(np.array_equal(one, other) for one, other in zip(whole, parts, strict=True))


@pytest.fixture(scope="module")
def client() -> Any:
    with lossd.Client("embedded") as client:
        yield client


def ask(client: lossd.Client, request: Request) -> Result:
    result: Result = getattr(client, request.method)(*request.operands, **request.options)
    return result


@pytest.mark.parametrize("reduction", ["none", "mean"])
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("loss", LOSSES)
def test_right_answers_are_right(loss: str, dtype: str, reduction: str, client: lossd.Client) -> None:
    """Every loss in every dtype, with its gradient: and the second answer has the bits of the first."""
    mix = Mix(loss=loss, shapes=((16, 40), (3, 700)), dtype=dtype, reduction=reduction, gradient=True)

    for request in requests(mix)[:4]:
        assert request.expected.fault(ask(client, request)) == ""
        assert request.expected.fault(ask(client, request)) == ""
        assert request.expected.differing == 0


def test_a_large_answer_is_known_again(client: lossd.Client) -> None:
    """More bytes than are compared by copying them."""
    (request, *_) = requests(Mix(shapes=((64, 1000),), gradient=True))
    first, second = ask(client, request), ask(client, request)

    assert [request.expected.fault(one) for one in (first, second)] == ["", ""]
    second.grads["input"][5, 7] += 0.1
    assert request.expected.fault(second).startswith("gradient[5, 7] is ")
    # An odd number of bytes is no number of long words.
    (odd, *_) = requests(Mix(loss="bce", shapes=((3, 11_001),), dtype="bfloat16", gradient=True))
    assert [odd.expected.fault(ask(client, odd)) for _ in range(2)] == ["", ""]


def test_of_a_huge_answer_a_different_part_is_compared_each_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """A wrong element is found by the answer whose turn its part is; at once where all is compared."""
    monkeypatch.setattr("lossd.bench.check.PART_BYTES", 64_000)
    (request, *_) = requests(Mix(shapes=((64, 1000),), gradient=True))
    input, target = request.operands
    loss, gradient = (one.astype(np.float32) for one in closed_form("cross_entropy", input, target, "mean"))
    right = Result(loss, *(None, None), grads={"input": gradient})  # type: ignore[arg-type]  # nobody looks
    wrong = replace(right, grads={"input": gradient + np.eye(64, 1000, k=-40, dtype=np.float32)})

    assert request.expected.fault(right) == ""
    # Rows from 40 on are wrong: of four parts of 16 rows the third and the fourth.
    assert [bool(request.expected.fault(wrong)) for _ in range(8)] == [False, False, True, True] * 2
    request.expected.thorough = True
    assert [bool(request.expected.fault(wrong)) for _ in range(2)] == [True, True]


def test_what_is_wrong_is_said() -> None:
    """Value, place, and the value in float64; a shape; what is missing; NaN."""
    x, y = np.array([[1.0, 2.0], [3.0, 4.0]], np.float32), np.array([0, 1])
    resolution = (float(np.finfo(np.float32).eps), float(np.finfo(np.float32).tiny))
    loss, gradient = (one.astype(np.float32) for one in closed_form("cross_entropy", x, y, "none"))
    right = Result(loss, *(None, None), grads={"input": gradient})  # type: ignore[arg-type]  # nobody looks

    def fault(loss: Any = loss, gradient: Any = gradient) -> str:
        expected = Expected("cross_entropy", (x, y), "none", True, resolution)
        return expected.fault(replace(right, loss=loss, grads={} if gradient is None else {"input": gradient}))

    assert fault() == ""
    assert fault(loss=loss + np.array([0, 1e-4], np.float32)).startswith("loss[1] is 0.3133")
    assert fault(loss=loss * np.array([np.nan, 1], np.float32)).startswith("loss[0] is nan, in float64 1.313")
    assert fault(loss=loss[:1]) == "the loss has shape [1], not [2]"
    assert fault(gradient=None) == "no gradient came back"
    assert fault(gradient=-gradient).startswith("gradient[0, 0] is ")


def test_an_answer_within_the_tolerance_but_of_other_bits_is_counted() -> None:
    """Right, and not what the server promises."""
    (request, *_) = requests(Mix(shapes=((3, 5),)))
    input, target = request.operands
    exact = closed_form("cross_entropy", input, target, "mean")[0].astype(np.float32)
    first = Result(exact, *(None, None))  # type: ignore[arg-type]  # nobody looks
    other = replace(first, loss=np.nextafter(exact, np.float32(9)))

    assert [request.expected.fault(one) for one in (first, first, other)] == ["", "", ""]
    assert request.expected.differing == 1


def test_a_mix_is_its_seed() -> None:
    """The same seed, the same tensors in the same order; another seed, others."""
    mix = Mix(shapes=((2, 3), (4, 5)), order="random", seed=5)
    drawn = requests(mix)

    again = requests(mix)
    assert all(np.array_equal(one.operands[0], other.operands[0]) for one, other in zip(drawn, again, strict=True))
    places = [[drawn.index(one) for one in islice(order(mix, drawn), 20)] for _ in range(2)]
    assert places[0] == places[1]
    assert not np.array_equal(drawn[0].operands[0], requests(replace(mix, seed=6))[0].operands[0])


def test_a_cycle_is_the_mix_everywhere() -> None:
    """Shape after shape, as they were given."""
    mix = Mix(shapes=((2, 3), (4, 5), (1, 7)))

    sent = list(islice(order(mix, requests(mix)), 60))
    assert [one.operands[0].shape for one in sent] == list(mix.shapes) * 20


def test_large_requests_are_few() -> None:
    """Distinct ones of a shape hold 32 MiB at most, or there is one."""
    assert len(requests(Mix(shapes=((8, 16),)))) == 16
    assert len(requests(Mix(shapes=((1024, 4096),)))) == 2
    assert len(requests(Mix(shapes=((1024, 10_000),)))) == 1


def test_what_a_request_amounts_to() -> None:
    """Rows, elements, and the bytes of its tensors there and back."""
    (request, *_) = requests(Mix(shapes=((2, 4, 3),), gradient=True))

    assert (request.rows, request.elements) == (6, 24)
    assert request.nbytes == 24 * 4 + 6 * 8 + 24 * 4 + 4
