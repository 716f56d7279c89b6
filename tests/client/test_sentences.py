"""What a user reads when a call is wrong: the same sentence by every way, in the words of its options."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

import lossd
from lossd_server.embedded import EmbeddedServer

WIRE_NAME = re.compile(r"\b(DATA_TYPE|KIND|GRADIENT|REDUCTION|OUTPUT|EMPTY_MEAN|ACTIVATION_FUNCTION)_")
X = np.full((4, 3), 0.5, np.float32)
Y = np.zeros(4, np.int64)
TOKENS = np.zeros((4, 5, 3), np.float32)

# Method, tensors, options, what the sentence says.
WRONG: list[tuple[str, tuple[Any, ...], dict[str, Any], str]] = [
    ("cross_entropy", (X, np.eye(4, 3, dtype=np.int64)), {}, "for one-hot targets pass the class indices"),
    ("cross_entropy", (X, Y.astype(np.float32)), {}, "class indices must have an integer dtype"),
    ("cross_entropy", (TOKENS, np.zeros((4, 5), np.int64)), {}, "classes are dimension 1; where they are its last one"),
    ("cross_entropy", (X, Y - 1), {}, "to leave such rows out give ignore_index = -1"),
    ("cross_entropy", (X, Y), {"grad": "target"}, "the gradient of target is asked for, but class indices have none"),
    ("cross_entropy", (X, Y), {"kind": "counts", "z_loss": 1.0}, "z_loss is given with kind counts, but it needs kind"),
    ("cross_entropy", (X, Y), {"reduction": "batchmean"}, "reduction = batchmean is not taken by CrossEntropy"),
    ("bce", (X + 2, X), {}, "is outside [0, 1]: bce takes probabilities, bce_with_logits takes logits"),
    ("bce", (X, X[:2]), {}, "target has shape [2, 3], but must have shape [4, 3]: that of the input"),
    ("nll", (X, X[:, 0]), {}, "target has dtype float32, but must have an integer dtype for class indices"),
    ("entropy", (Y,), {}, "input has dtype int64, but must have a float dtype, or an integer dtype with kind counts"),
    ("kl_divergence", (X, X), {"target_kind": "indices"}, "target_kind must be 'logits', 'log_probabilities', 'prob"),
]


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    with EmbeddedServer() as server:
        yield server.address


@pytest.fixture(scope="module")
def client(address: str) -> Iterator[lossd.Client]:
    with lossd.Client(address) as client:
        yield client


def failure(call: Any) -> lossd.Error:
    with pytest.raises(lossd.InvalidArgument) as caught:
        call()
    return caught.value


@pytest.mark.parametrize("method, tensors, options, said", WRONG)
def test_a_wrong_call_reads_the_same_by_every_way(
    client: lossd.Client, address: str, method: str, tensors: Any, options: dict[str, Any], said: str
) -> None:
    """One message, a stream's Failure, and the awaitable client: one sentence, one line, no names of the wire."""

    async def awaited() -> Any:
        async with lossd.aio.Client(address) as other:
            return await getattr(other, method)(*tensors, **options)

    first = failure(lambda: getattr(client, method)(*tensors, **options))
    streamed = failure(lambda: list(client.map(method, [tensors], **options)))
    other = failure(lambda: asyncio.run(awaited()))

    assert said in str(first)
    assert str(first) == str(streamed) == str(other)
    assert (first.field, first.reason, first.metadata) == (streamed.field, streamed.reason, streamed.metadata)
    assert not any("\n" in text or WIRE_NAME.search(text) for text in (str(first), *first.metadata.values()))
    assert first.details == ""


def test_what_a_user_is_told_to_do_helps(client: lossd.Client) -> None:
    """Each way out of a hint is a call that is taken, and the two for tokens are the same loss."""
    labels = np.zeros((4, 5), np.int64)
    moved = client.cross_entropy(np.moveaxis(TOKENS, -1, 1), labels)
    flat = client.cross_entropy(TOKENS.reshape(20, 3), labels.reshape(20))

    assert float(moved) == float(flat)
    assert float(client.cross_entropy(X, np.eye(4, 3, dtype=np.float32))) > 0
    assert client.cross_entropy(X, Y - 1, ignore_index=-1).summary.count == 0
    assert float(client.bce_with_logits(X + 2, X)) > 0
