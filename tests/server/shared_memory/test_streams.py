"""Evaluations of a stream whose tensors lie in shared memory."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np

from lossd.v1 import loss_pb2 as loss
from lossd.v1 import service_pb2 as service
from lossd_server.backends import Backend
from tests.losses.messages import tensor
from tests.server.edge import EdgeBackend
from tests.server.shared_memory.hosting import Host, hosted
from tests.server.streaming.conversation import messages, opened

LOGITS = np.random.default_rng(3).normal(size=(8, 50)).astype(np.float32)
TARGET = np.arange(8) * 5


def ends(host: Host, sent: Iterable[Any]) -> dict[int, Any]:
    """How each evaluation ended: a response, or its Failure."""
    found: dict[int, Any] = {}
    for response in host.stub.Stream(iter(sent)):
        kind = response.WhichOneof("message")
        if kind == "block":
            continue
        if kind == "failure":
            found[response.failure.evaluation_id] = response.failure
            continue
        for result in response.results.results if kind == "results" else [response.result]:
            found[result.evaluation_id] = getattr(result, result.WhichOneof("response"))
    return found


def test_complete_in_itself(numba: Backend) -> None:
    """An Open that is complete in itself may name shared memory, and place its gradient there."""
    with hosted(numba) as host:
        _, logits = host.share(LOGITS)
        _, target = host.share(TARGET, "int64")
        places = [host.regions.empty(LOGITS.shape, "float32") for _ in range(2)]
        plain = service.CrossEntropyRequest(
            input=tensor(LOGITS), target=tensor(TARGET, "int64"), gradients=[loss.GRADIENT_INPUT]
        )
        shared = service.CrossEntropyRequest(input=logits, target=target, gradients=[loss.GRADIENT_INPUT])
        both = []
        for place, request in zip(places, (plain, shared), strict=True):
            placed = service.CrossEntropyRequest()
            placed.CopyFrom(request)
            placed.placements.append(host.placement(place))
            both.append(placed)
        opens = service.Opens(opens=[opened(one, number) for number, one in enumerate((plain, *both))])
        alone = service.StreamRequest(open=opened(both[1], 9))
        found = ends(host, [service.StreamRequest(opens=opens), alone])

        assert len({answer.loss.data for answer in found.values()}) == 1
        assert [place.tobytes() for place in places] == [found[0].input_gradient.data] * 2
        assert found[9].input_gradient.shared_memory == both[1].placements[0].shared_memory
        assert host.inflight() == (0, 0)


def test_beside_what_is_streamed(numba: Backend) -> None:
    """An Open may stream its input and have its target in shared memory."""
    with hosted(numba) as host:
        _, target = host.share(TARGET, "int64")
        plain = service.CrossEntropyRequest(input=tensor(LOGITS), target=tensor(TARGET, "int64"))
        mixed = service.CrossEntropyRequest(input=tensor(LOGITS), target=target)
        whole = host.stub.CrossEntropy(plain)
        found = ends(host, messages(mixed, 1, ("input",), (0, 3, 8)))

        assert found[1].loss == whole.loss
        host.given_back()


def test_an_unknown_token_fails_alone(numba: Backend) -> None:
    """An evaluation with a token that is not known fails, and its neighbours do not."""
    with hosted(numba) as host:
        _, logits = host.share(LOGITS)
        good = service.CrossEntropyRequest(input=logits, target=tensor(TARGET, "int64"))
        bad = service.CrossEntropyRequest(input=logits, target=tensor(TARGET, "int64"))
        bad.input.shared_memory.token = bytes(16)
        opens = service.Opens(opens=[opened(one, number) for number, one in enumerate((good, bad, good))])
        found = ends(host, [service.StreamRequest(opens=opens)])

        assert found[0].loss == found[2].loss
        assert found[1].code == 5
        assert "no such region" in found[1].message


def test_copies_are_charged() -> None:
    """Many evaluations that name the same integers cost what they copy: those beyond the budget are refused."""
    backend = EdgeBackend()
    with hosted(backend, max_message_bytes=1 << 16, max_inflight_bytes=1 << 18) as host:
        _, target = host.share(np.zeros(4000), "int64")
        request = service.CrossEntropyRequest(input=tensor(np.zeros((4000, 1))), target=target)
        _, there = host.share(np.zeros((4000, 1)))
        request.input.CopyFrom(there)
        opens = service.Opens(opens=[opened(request, number) for number in range(50)])
        found = ends(host, [service.StreamRequest(opens=opens)])
        refused = [one for one in found.values() if isinstance(one, service.Failure)]

        assert len(found) == 50
        assert 40 < len(refused) < 50
        assert {one.code for one in refused} == {8}
        host.given_back()
