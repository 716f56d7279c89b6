"""A server that ends, or is there again, while a model trains."""

from __future__ import annotations

import pytest
import torch

import lossd
from tests.server.server_process import process
from tests.torch.losses import backward, calls_of_losses
from tests.torch.routes import ROUTES, Route, local


@pytest.fixture(params=ROUTES)
def route(request: pytest.FixtureRequest) -> Route:
    return ROUTES[request.param]


CALL = calls_of_losses()["cross_entropy of classes"]


def test_a_server_that_ends_between_forward_and_backward() -> None:
    """Backward needs no server: the gradient is here. The next forward is Unavailable when the client's time is over.

    All losses and routes at once, since a server takes a while to start.
    """
    graphs = []
    with process("--listen", "127.0.0.1:0") as (server, address), lossd.Client(address, timeout=60.0) as client:
        for call in calls_of_losses().values():
            for route in ROUTES.values():
                leaves = call.leaves
                graphs.append((call, leaves, call.compute(route, client, leaves, reduction="sum")))
        with lossd.Client(address, timeout=0.5) as impatient:
            CALL.compute(local, impatient, CALL.leaves)
            assert impatient.health()
            server.kill()
            server.wait()

            for call, leaves, loss in graphs:
                backward(loss)
                others = call.leaves
                backward(call.compute(local, None, others, reduction="sum"))
                for name in leaves:
                    torch.testing.assert_close(leaves[name].grad, others[name].grad, rtol=1e-12, atol=1e-12)
            for route in ROUTES.values():
                with pytest.raises(lossd.Unavailable):
                    CALL.compute(route, impatient, CALL.leaves)


def test_a_server_that_is_there_again() -> None:
    """Started anew at its address, it answers the client's next forward; graphs of before still work."""
    with process("--listen", "127.0.0.1:0") as (server, address), lossd.Client(address) as client:
        graphs = []
        for route in ROUTES.values():
            leaves = CALL.leaves
            graphs.append((route, leaves, CALL.compute(route, client, leaves)))
        server.kill()
        server.wait()
        with process("--listen", address):
            for route, before, loss in graphs:
                leaves = CALL.leaves
                backward(CALL.compute(route, client, leaves))
                backward(loss)

                torch.testing.assert_close(leaves["input"].grad, before["input"].grad, rtol=0, atol=0)


def test_a_client_that_was_closed(route: Route) -> None:
    """Its gradients can still be had; the next forward says that it was closed."""
    with lossd.Client("embedded") as client:
        leaves = CALL.leaves
        loss = CALL.compute(route, client, leaves)
    backward(loss)

    assert leaves["input"].grad is not None
    with pytest.raises(lossd.Error, match="closed"):
        CALL.compute(route, client, CALL.leaves)
