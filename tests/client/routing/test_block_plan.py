"""How calls fall into items and blocks."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pytest

from lossd.request.build import build
from lossd.routing import block_plan as items
from lossd.routing.block_plan import BlockPlan
from lossd.rpc.server_limits import MessageLimits

LIMITS = MessageLimits(max_message_bytes=16 << 20, max_item_bytes=16 << 20, elementwise_granularity=4096)
X = np.zeros((64, 1000), np.float32)
Y = np.zeros(64, np.int64)


def cut(method: str, *operands: Any, limits: MessageLimits = LIMITS, **options: Any) -> BlockPlan | str:
    return items.plan_blocks(build(method, *operands, **options), limits)


@pytest.mark.parametrize(
    "method, operands, options, reason",
    [
        ("entropy", (np.float32(1),), {}, "a scalar"),
        ("entropy", (X[0],), {}, "one row"),
        ("entropy", (X,), {"dim": 0}, "one row"),
        ("entropy", (X,), {"dim": -2}, "one row"),
        ("softmax", (X,), {"dim": 0}, "one row"),
        ("cross_entropy", (X[0], np.int64(0)), {}, "one row"),
        ("entropy", (X[:0],), {}, "empty"),
        (
            "entropy",
            (X,),
            {"limits": MessageLimits(1 << 20, 1 << 10)},
            r"an item .* has 4000 bytes.*max_item_bytes is 1024",
        ),
        ("entropy", (X,), {"limits": MessageLimits(1 << 10, 1 << 20)}, r"max_message_bytes is 1024"),
        ("entropy", (X,), {"limits": MessageLimits(1 << 20)}, "no Stream"),
    ],
)
def test_what_cannot_be_cut_says_why(
    method: str, operands: tuple[Any, ...], options: dict[str, Any], reason: str
) -> None:
    """As the end of a sentence."""
    found = cut(method, *operands, **options)

    assert isinstance(found, str)
    assert re.search(reason, found)


@pytest.mark.parametrize("method", ["self_information", "sigmoid", "log_sigmoid"])
def test_elements_of_a_vector_are_items(method: str) -> None:
    """Elementwise losses need no rows; blocks hold a multiple of the granularity."""
    found = cut(method, np.zeros(1 << 21, np.float32))

    assert isinstance(found, BlockPlan)
    assert found.step % 4096 == 0


def test_divergences_of_logits_have_rows() -> None:
    """Their kinds decide."""
    assert isinstance(cut("kl_divergence", X[0], X[0]), BlockPlan)
    assert isinstance(cut("kl_divergence", X[0], X[0], kind="logits"), str)


def test_large_tensors_with_items_are_cut_along() -> None:
    """Small ones, and class weights of whatever size, go whole; a target with a gradient always goes along."""
    rows = 1 << 18
    x, y = np.zeros((rows, 4), np.float32), np.zeros(rows, np.int64)
    options: dict[str, Any] = {"row_weight": np.ones(rows), "weight": np.ones(4), "reduction": "none"}

    found = cut("cross_entropy", x, y, grad_output=np.ones(rows, np.float64), **options)
    small = cut("cross_entropy", X, np.full(X.shape, 0.5, np.float32), grad="target")
    broadcast = cut("bce", X, X, weight=np.ones((1, 1000)), grad=True)
    assert isinstance(found, BlockPlan)
    assert isinstance(small, BlockPlan)
    assert isinstance(broadcast, BlockPlan)
    assert set(found.streamed) == {"input", "target", "row_weight", "grad_output"}
    assert small.streamed == ("input", "target")
    assert broadcast.streamed == ("input",)


@pytest.mark.parametrize(
    "method, operands, options, size",
    [
        ("cross_entropy", (X, Y), {}, 0),
        ("cross_entropy", (X, Y), {"reduction": "none"}, 4),
        ("cross_entropy", (X, Y), {"grad": True, "outputs": ["lse", "argmax", "correct"]}, 4000 + 13),
        ("cross_entropy", (X.astype(np.float64), Y), {"reduction": "none", "grad": True}, 8008),
        ("bce", (X, X), {"reduction": "none"}, 4000),
        ("kl_divergence", (X, X), {"reduction": "none", "kind": "logits", "grad": "target"}, 8000),
        ("self_information", (X,), {}, 4000),
        ("self_information", (X,), {"reduction": "mean"}, 0),
        ("softmax", (X.astype(np.float16),), {}, 2000),
    ],
)
def test_the_answer_to_an_item_is_known_before(
    method: str, operands: tuple[Any, ...], options: dict[str, Any], size: int
) -> None:
    """Gradients, losses by row or element, by-products."""
    assert items.answer_item_bytes(build(method, *operands, **options)) == size
