"""Clients of other languages, each in a program of its own, get from either front what they ask for."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import ExitStack, closing
from functools import partial
from typing import Any

import grpc
import numpy as np
import pytest

from lossd.v1.service_pb2_grpc import LossServiceStub
from tests.interop.clients import CLIENTS, InteropClient, Running
from tests.interop.conftest import Served
from tests.interop.python.blocking import Halves, ended_with, unary
from tests.interop.python.messages import HALVES, WHOLE
from tests.interop.relay import Relay
from tests.server.server_process import process
from tests.waiting import WAIT_S, until

OK, CANCELLED, INVALID_ARGUMENT, DEADLINE_EXCEEDED, RESOURCE_EXHAUSTED, UNAVAILABLE = 0, 1, 3, 4, 8, 14
KEEPALIVE_PINGS = 2  # 10 s each, the shortest that grpc-go and grpc-java allow


def cross_entropy(n: int, c: int) -> dict[str, Any]:
    """The mean, and Σ |g[i]| · (1 + i mod 97) over its gradient's entries: in float64, by the formula."""
    x = ((np.arange(n * c) * 7919 % 10007) / 1000 - 5).astype(np.float32).astype(np.float64).reshape(n, c)
    here = (np.arange(n), np.arange(n) * 31 % c)
    shares = np.exp(x) / np.exp(x).sum(1, keepdims=True)
    loss = -np.log(shares[here]).mean()
    shares[here] -= 1
    weighted = (np.abs(shares.ravel() / n) * (1 + np.arange(n * c) % 97)).sum()
    return {"loss": near(loss), "gradient": near(weighted)}


def near(value: float) -> Any:
    """float32's loss, of sums of up to a thousand entries."""
    return pytest.approx(value, rel=2e-6)


def test_unary(served: Served, client: InteropClient) -> None:
    """A unary call has the loss and the gradient."""
    answer = client.run(served.address, "unary")

    assert answer == cross_entropy(4, 5)


@pytest.mark.parametrize("client", [one for one in CLIENTS if one.unix], indirect=True, ids=lambda one: one.name)
def test_unix(served: Served, client: InteropClient) -> None:
    """So has one through a Unix socket."""
    answer = client.run(served.unix, "unary")

    assert answer == cross_entropy(4, 5)


def test_stream(served: Served, client: InteropClient) -> None:
    """A tensor in blocks has its gradient in blocks, then its loss, and the call ends with OK."""
    answer = client.run(served.address, "stream")

    n, c, items = WHOLE
    assert answer == {**cross_entropy(n, c), "blocks": -(-n // items), "code": OK}


def test_error(served: Served, client: InteropClient) -> None:
    """A wrong request is refused with its reason and the field."""
    answer = client.run(served.address, "error")

    assert answer == {
        "code": INVALID_ARGUMENT,
        "reason": "CLASS_OUT_OF_RANGE",
        "domain": "lossd",
        "fields": ["target"],
    }


def test_deadline(served: Served, client: InteropClient) -> None:
    """A call whose deadline passes ends with that, and the server lets go of it."""
    before = served.until_idle()
    answer = client.run(served.address, "deadline")

    assert answer == {"code": DEADLINE_EXCEEDED}
    assert served.until_idle().completed == before.completed


def test_cancellation(served: Served, client: InteropClient) -> None:
    """A call that is cancelled ends with that, the server lets go of it, and the next call has its answer."""
    before = served.until_idle()
    answer = client.run(served.address, "cancel")

    assert answer == {**cross_entropy(4, 5), "code": CANCELLED}
    assert served.until_idle().completed == before.completed + 1


def test_large(served: Served, client: InteropClient) -> None:
    """16 MiB of logits have 16 MiB of gradient."""
    answer = client.run(served.address, "large")

    assert answer == cross_entropy(4096, 1024)


def test_many(served: Served, client: InteropClient) -> None:
    """A thousand calls, at once or one after another, go through one connection and have equal answers."""
    with closing(Relay(served.address)) as relay:
        answer = client.run(relay.address, "many")

    assert answer == {**cross_entropy(8, 16), "calls": 1000, "same": True}
    assert relay.connections == 1


@pytest.fixture(scope="module")
def small(front: str) -> Iterator[str]:
    """The address of a server that takes small messages alone."""
    with process("--front", front, "--listen", "127.0.0.1:0", "--max-message-bytes", "64KiB") as (_, address):
        yield address


def test_refusals(small: str, client: InteropClient) -> None:
    """Calls that are refused while their client still sends do not end the connection, however many those are."""
    with closing(Relay(small)) as relay:
        answer = client.run(relay.address, "refusals")

    assert answer == {**cross_entropy(4, 5), "code": RESOURCE_EXHAUSTED}
    assert relay.connections == 1


def start(stack: ExitStack, addresses: dict[str, str], case: str) -> dict[str, Running]:
    """The clients of these names, all at once; they are ended with the stack."""
    return {
        one.name: stack.enter_context(closing(one.start(addresses[one.name], case)))
        for one in CLIENTS
        if one.name in addresses
    }


@pytest.fixture(scope="module")
def kept(served: Served) -> Iterator[dict[str, tuple[Running, Relay]]]:
    """Every client with a call that stands still until its PINGs were answered: at once, since each waits for long."""
    with ExitStack() as stack:
        relays = {one.name: stack.enter_context(closing(Relay(served.address))) for one in CLIENTS if one.is_built}
        running = start(stack, {name: relay.address for name, relay in relays.items()}, "keepalive")
        for one in running.values():
            one.until_paused()
        before = {name: relay.answers for name, relay in relays.items()}
        for name, relay in relays.items():
            until(partial(has_answers, relay, before[name] + KEEPALIVE_PINGS), f"answers to the PINGs of {name}")
        for one in running.values():
            one.go_on()
        yield {name: (running[name], relays[name]) for name in running}


def has_answers(relay: Relay, least: int) -> bool:
    return min(relay.pings, relay.answers) >= least


def test_keepalive(client: InteropClient, kept: dict[str, tuple[Running, Relay]]) -> None:
    """PINGs of a call that stands still are answered, and neither the call nor the connection ends for them."""
    running, relay = kept[client.name]
    answer = running.answer()

    n, c, _ = HALVES
    assert answer == {**cross_entropy(n, c), "blocks": 2, "code": OK}
    assert relay.connections == 1


@pytest.fixture(scope="module")
def drained(front: str) -> Iterator[dict[str, Running]]:
    """Every client, with a call under way while its server stops and another takes its place."""
    with ExitStack() as stack:
        with process("--front", front, "--listen", "127.0.0.1:0") as (server, address):
            running = start(stack, {one.name: address for one in CLIENTS if one.is_built}, "drain")
            with grpc.insecure_channel(address) as channel:
                stub = LossServiceStub(channel)
                last = Halves(stub)  # holds the server up until every client has heard its refusal
                for one in running.values():
                    one.until_paused()
                server.send_signal(signal.SIGTERM)
                until(lambda: ended_with(lambda: unary(stub)) == UNAVAILABLE, "the server takes no more calls")
                for one in running.values():
                    one.go_on()
                for one in running.values():
                    one.until_paused()
                last.finish()
                assert server.wait(WAIT_S) == 0
        with process("--front", front, "--listen", address):
            for one in running.values():
                one.go_on()
            for one in running.values():
                one.wait()
        yield running


def test_drain(client: InteropClient, drained: dict[str, Running]) -> None:
    """While a server stops, a call under way has its result, and a new one is UNAVAILABLE; the client finds the next
    server at that address. The call's own end may say that the server stops, since it does."""
    answer = drained[client.name].answer()

    n, c, _ = HALVES
    assert answer.pop("code") in (OK, UNAVAILABLE)
    assert answer == {
        **cross_entropy(n, c),
        "blocks": 2,
        "refused": UNAVAILABLE,
        "again": cross_entropy(4, 5)["loss"],
    }
