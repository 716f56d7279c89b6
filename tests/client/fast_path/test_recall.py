"""Which calls are remembered, and for how long."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

import numpy as np
import pytest

from lossd.fast_path import request_template
from lossd.fast_path.request_template import MOST_BYTES, MOST_REMEMBERED, recall
from lossd.request.build import build
from lossd.routing.choose_transport import SMALL_BYTES
from tests.client.fast_path.alike import outcome

X = np.arange(6, dtype=np.float32).reshape(2, 3)
Y = np.array([0, 2])


@pytest.fixture(autouse=True)
def forgotten() -> Iterator[None]:
    """Nothing is remembered from other tests, nor for them."""
    request_template._remembered.cache_clear()
    yield
    request_template._remembered.cache_clear()


def recalled(*operands: Any, method: str = "cross_entropy", most: int = SMALL_BYTES, **options: Any) -> bytes | None:
    found = recall(method, operands, options, most)
    return None if found is None else b"".join(found[1])


def body(x: Any, options: dict[str, Any]) -> bytes:
    return build("entropy", x, **options).body()


def test_a_call_is_recalled_the_second_time() -> None:
    """The first leaves no more than a key: shapes that never repeat cost no template."""
    assert [recalled(X, Y) is None for _ in range(4)] == [True, False, False, False]


def test_numbers_are_those_of_the_moment() -> None:
    """Of arrays, weights among them, that their owner writes into between two calls."""
    x, weight = X.copy(), np.ones(3, np.float32)
    for number in range(5):
        x[0, 0] = weight[1] = number
        found = recalled(x, Y, weight=weight)

        assert found is None or found == build("cross_entropy", x, Y, weight=weight).body()
    assert found is not None


@pytest.mark.parametrize(
    ("option", "first", "second"),
    [("grad", True, 1), ("grad", False, 0), ("dim", 1, True), ("base", 2, 2.0), ("normalizer", 1.0, True)],
)
def test_equal_values_of_other_types_are_other_calls(option: str, first: Any, second: Any) -> None:
    """True is a gradient and 1 an error, although they are equal."""
    x = np.full((2, 2), 0.5, np.float32)
    for value in (first, first, first, second, second, second, first):
        options = {option: value}
        expected = outcome(partial(body, x, options))

        assert outcome(partial(recalled, x, method="entropy", **options)) in (None, expected)


def test_legacy_options_warn_each_time() -> None:
    """As PyTorch does; and an array for the gradient is checked each time."""
    for _ in range(4):
        with pytest.warns(UserWarning, match="size_average"):
            build("cross_entropy", X, Y, size_average=False)

        assert recalled(X, Y, size_average=False) is None
        assert recalled(X, Y, grad=True, out=np.empty_like(X)) is None


def test_large_calls_have_no_template() -> None:
    """From MOST_BYTES on an array is not copied before it is in the message."""
    fits = np.ones((1, MOST_BYTES // 4), np.float32)
    larger = np.ones((1, MOST_BYTES // 4 + 1), np.float32)

    assert [recalled(fits, method="entropy") is None for _ in range(3)] == [True, False, False]
    assert [recalled(larger, method="entropy") is None for _ in range(3)] == [True, True, True]


def test_a_message_that_may_not_be_so_large_goes_the_general_way() -> None:
    """Of a server, or a client, that takes less; 0: it is asked to go in blocks."""
    whole = [recalled(X, Y, most=SMALL_BYTES) for _ in range(3)][-1]

    assert whole is not None
    assert recalled(X, Y, most=len(whole)) is None  # beside it an answer must fit, whose headers are not known
    assert recalled(X, Y, most=0) is None


def test_what_is_remembered_is_bounded() -> None:
    """Whatever shapes come: the least recently used are forgotten."""
    for rows in range(MOST_REMEMBERED + 50):
        x = np.ones((rows, 2), np.int8)
        for _ in range(2):
            recalled(x, method="entropy", kind="counts")
    known = request_template._remembered.cache_info()

    assert known.currsize == known.maxsize == MOST_REMEMBERED
    assert recalled(np.ones((0, 2), np.int8), method="entropy", kind="counts") is None
    assert recalled(x, method="entropy", kind="counts") is not None


@pytest.mark.parametrize("value", ["mean" * 1000, 10**1000, ("lse",) * 1000, ("lse" * 1000,)])
def test_values_that_no_option_has_are_not_remembered(value: Any) -> None:
    """However many of them there are, and however large."""
    for _ in range(3):
        assert recalled(X, Y, outputs=value) is None
    assert request_template._remembered.cache_info().currsize == 0


def test_threads_share_templates() -> None:
    """Each gets its own numbers, while others make, fill and forget."""

    def ask(seed: int) -> None:
        random = np.random.default_rng(seed)
        for _ in range(200):
            x = random.random((random.integers(1, 5), 3), np.float32)
            found = recalled(x, method="entropy", kind="logits")
            assert found is None or found == build("entropy", x, kind="logits").body()

    with ThreadPoolExecutor(8) as threads:
        assert list(threads.map(ask, range(8))) == [None] * 8
