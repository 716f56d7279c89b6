"""What the client does not try to send by shared memory: pure, and against a server that would refuse it."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import lossd
from lossd.request.build import build
from lossd.routing.shared_memory_limits import copied_there, why_not
from lossd.rpc.server_limits import MessageLimits
from lossd_server.backends import Backend
from lossd_server.embedded import EmbeddedServer

X = np.full((40, 1000), 0.5, np.float32)


@pytest.mark.parametrize(
    "method, operands, options, copied",
    [
        ("bce", (X, X), {}, 0),
        ("bce", (X, X > 0.1), {}, 40_000),
        ("bce", (X, X), {"weight": X}, 0),
        ("bce", (X, X), {"weight": X.astype(np.float16)}, 80_000),
        ("bce", (X.astype(np.float64), X), {"weight": X}, 160_000),
        ("cross_entropy", (X, np.zeros(40, np.int64)), {}, 320),
        ("cross_entropy", (X, X), {"target_kind": "counts"}, 160_000),
        ("entropy", (X.astype(np.int16),), {"kind": "counts"}, 80_000),
        ("self_information", (X.astype(np.float16),), {}, 0),
    ],
)
def test_copied(method: str, operands: Any, options: Any, copied: int) -> None:
    """Floats of 16 bits and more are used where they lie, unless they are weights that need widening."""
    assert copied_there(build(method, *operands, **options)) == copied


@pytest.mark.parametrize(
    "method, operands, options, words",
    [
        ("bce", (X, X > 0.1), {}, "40000 bytes of it"),
        ("softmax", (X,), {}, "beside the gradients"),
        ("bce", (X, X), {"reduction": "none"}, "beside the gradients"),
        ("bce", (X, X), {"grad": True}, None),
        ("cross_entropy", (X, np.zeros(40, np.int64)), {"grad": True}, None),
    ],
)
def test_why_not(method: str, operands: Any, options: Any, words: str | None) -> None:
    """What would be copied, or comes back in a message, must fit one."""
    call = build(method, *operands, **options)
    found = why_not(call, MessageLimits(max_message_bytes=30_000))

    assert why_not(call, MessageLimits(max_message_bytes=1 << 20)) is None
    assert why_not(call, MessageLimits()) is None
    assert (words is None) == (found is None)
    assert (words or "") in (found or "")


@pytest.fixture(scope="module")
def client(numba: Backend) -> Any:
    with EmbeddedServer(backend=numba) as server, lossd.Client(server.address) as found:
        yield found


BIG = np.full((2200, 4000), 0.5, np.float32)


@pytest.mark.parametrize(
    "method, operands, options",
    [
        ("bce", (BIG, np.ones((2200, 4000), np.int64)), {}),
        ("bce", (BIG, BIG), {"reduction": "none"}),
        ("bce", (BIG, BIG), {"weight": BIG.astype(np.float16), "grad": True}),
        ("softmax", (BIG,), {}),
    ],
    ids=["integers", "losses", "weights", "values"],
)
def test_another_way(client: lossd.Client, method: str, operands: Any, options: Any) -> None:
    """What shared memory cannot carry goes another way by itself."""
    found = getattr(client, method)(*operands, **options)

    if method == "softmax":
        assert found[0, 0] == pytest.approx(1 / 4000)
    else:
        assert np.mean(found.loss) == pytest.approx(np.log(2) * (0.5 if options.get("weight") is not None else 1))
