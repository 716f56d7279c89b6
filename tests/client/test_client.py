"""The blocking client over real sockets, against scripted answers."""

from __future__ import annotations

import socket
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import grpc
import numpy as np
import pytest
import torch

import lossd
from lossd.request.build import build
from lossd.rpc import protocol
from lossd_server.errors import GoingAway, InvalidRequest, Overloaded
from tests.client.programs import run
from tests.client.stand_in import StandIn
from tests.waiting import WAIT_S

X = np.full((2, 3), 1.5, np.float32)
Y = np.zeros(2, np.int64)


def test_an_answer_is_a_result(client: lossd.Client) -> None:
    """Loss, gradient, summary and timing come from one call."""
    result = client.cross_entropy(X, Y, grad=True)

    assert float(result) == 1.5
    assert result.grad.tolist() == X.tolist()
    assert result.summary.count == 4
    assert result.timing.total_s > 0


@pytest.mark.parametrize("transport", ["unary", "stream"])
def test_a_client_that_does_not_repeat(server: StandIn, transport: lossd.Transport) -> None:
    """What is unavailable is raised at once, for the caller has another server; a client is told so, or repeats."""
    for retry in (False, True):
        server.failures.append(GoingAway("draining", reason="SERVER_STOPPING"))
        with lossd.Client(server.address, retry=retry) as client:
            client.info()
            if retry:
                assert float(client.cross_entropy(X, Y, transport=transport)) == 1.5
            else:
                with pytest.raises(lossd.Unavailable):
                    client.cross_entropy(X, Y, transport=transport)
                assert float(client.cross_entropy(X, Y, transport=transport)) == 1.5


def test_a_client_says_where_it_goes_and_how_it_is(server: StandIn) -> None:
    """Not yet connected, connected, closed: without asking anybody."""
    client = lossd.Client(server.address)
    said = [repr(client)]
    client.entropy(X)
    said.append(repr(client))
    client.close()
    said.append(repr(client))

    states = ("not yet connected", "connected", "closed")
    assert said == [f"<lossd.Client {server.address}, {state}>" for state in states]
    assert server.rpcs == ["Entropy"]


def test_an_activation_is_an_array_of_the_inputs_kind(client: lossd.Client) -> None:
    """numpy for numpy, torch for torch, of the input's dtype."""
    half = torch.ones(2, dtype=torch.bfloat16)

    assert client.softmax(X).tolist() == X.tolist()
    assert torch.equal(client.sigmoid(half), half)


def test_both_sizes_are_told_in_metadata(server: StandIn, client: lossd.Client) -> None:
    """The request's to be admitted by, the answer's to be refused by."""
    client.entropy(X)

    body = build("entropy", X).body()
    assert server.metadata[0]["lossd-request-bytes"] == str(len(body))
    assert server.metadata[0]["lossd-max-response-bytes"] == str(2**31 - 1)


def test_small_calls_do_not_ask_for_limits(server: StandIn, client: lossd.Client) -> None:
    """One round trip each."""
    client.entropy(X)
    client.entropy(X)

    assert server.rpcs == ["Entropy", "Entropy"]


def test_large_calls_ask_for_limits_once(server: StandIn, client: lossd.Client) -> None:
    """Once a client, before the first of them."""
    large = np.zeros((1, protocol.LARGE_BYTES // 4), np.float32)

    client.entropy(large)
    client.entropy(large)

    assert server.rpcs == ["GetServerInfo", "Entropy", "Entropy"]


def test_a_request_over_the_servers_limit_is_not_sent(server: StandIn, client: lossd.Client) -> None:
    """The error names the option and both numbers."""
    server.max_message_bytes = protocol.LARGE_BYTES

    with pytest.raises(lossd.TooLarge, match=r"takes 1048576 in one message.*max_message_bytes") as caught:
        client.entropy(np.zeros(protocol.LARGE_BYTES, np.float32))

    assert caught.value.field == "max_message_bytes"
    assert server.rpcs == ["GetServerInfo"]


@pytest.mark.parametrize(
    "failure",
    [
        grpc.StatusCode.UNAVAILABLE,
        grpc.StatusCode.CANCELLED,
        GoingAway("the server is going away", reason="GOING_AWAY", retry_after_s=0.001),
        Overloaded("the server is full", reason="OVERLOADED", retry_after_s=0.001),
    ],
)
def test_passing_failures_are_repeated(server: StandIn, client: lossd.Client, failure: Overloaded) -> None:
    """The caller sees the answer."""
    server.failures.extend([failure, failure])

    assert float(client.entropy(X)) == 1.5
    assert len(server.rpcs) == 3


def test_lasting_failures_are_raised_at_once(server: StandIn, client: lossd.Client) -> None:
    """With the server's sentence and field."""
    server.failures.append(
        InvalidRequest("target[0] = 9 is outside [0, 3)", reason="CLASS_OUT_OF_RANGE", field="target")
    )

    with pytest.raises(lossd.InvalidArgument, match=r"^target\[0\] = 9 is outside \[0, 3\)$") as caught:
        client.cross_entropy(X, Y)

    assert caught.value.field == "target"
    assert len(server.rpcs) == 1


def test_what_a_server_lacks_is_not_served(server: StandIn, client: lossd.Client) -> None:
    """UNIMPLEMENTED has its own class, and is not asked for again."""
    server.failures.append(grpc.StatusCode.UNIMPLEMENTED)

    with pytest.raises(lossd.NotServed):
        client.entropy(X)

    assert len(server.rpcs) == 1


def test_a_call_ends_with_its_deadline(server: StandIn, client: lossd.Client) -> None:
    """DeadlineExceeded, and the server sees the call given up."""
    server.held = True

    with pytest.raises(lossd.DeadlineExceeded):
        client.entropy(X, timeout=0.2)

    assert server.abandoned.wait(WAIT_S)


def test_a_server_that_refuses_connections_is_unavailable() -> None:
    """The sentence names the address."""
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{unused.getsockname()[1]}"

        with lossd.Client(address) as client, pytest.raises(lossd.Unavailable, match=address):
            client.entropy(X, timeout=0.2)


def test_a_server_that_does_not_speak_is_unavailable() -> None:
    """A deadline that passes without a connection is no DeadlineExceeded."""
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()

        with (
            lossd.Client(f"127.0.0.1:{silent.getsockname()[1]}") as client,
            pytest.raises(lossd.Unavailable, match="no connection in time"),
        ):
            client.entropy(X, timeout=0.2)


@pytest.mark.parametrize("verb", [lambda c: c.entropy(X), lambda c: c.info(), lambda c: c.health()])
@pytest.mark.parametrize("used", [False, True])
def test_a_closed_client_says_so(server: StandIn, verb: Callable[[lossd.Client], object], used: bool) -> None:
    """Whether it was ever connected or not; closing twice does nothing."""
    client = lossd.Client(server.address)
    if used:
        client.entropy(X)
    client.close()
    client.close()

    with pytest.raises(lossd.Unavailable, match="this client is closed"):
        verb(client)


def test_closing_ends_calls_under_way(server: StandIn) -> None:
    """They raise Unavailable in their own threads, and are not repeated."""
    server.held = True
    client = lossd.Client(server.address)

    with ThreadPoolExecutor(1) as pool:
        call = pool.submit(client.entropy, X)
        assert server.entered.wait(WAIT_S)
        client.close()

        with pytest.raises(lossd.Unavailable, match="this client is closed"):
            call.result()


def test_64_threads_share_a_client(client: lossd.Client) -> None:
    """Each gets its own answer."""
    with ThreadPoolExecutor(64) as pool:
        losses = list(pool.map(lambda i: float(client.entropy(np.full((1, 4), i, np.float32))), range(256)))

    assert losses == list(range(256))


def test_info_is_what_the_server_says(client: lossd.Client) -> None:
    """Names for the dtypes that this client knows, numbers for those of a newer server."""
    info = client.info()

    assert (info.version, info.losses, info.dtypes) == ("0.0", ("BCE",), ("float32", "99"))
    assert info.limits.max_message_bytes == 16 << 20


@pytest.mark.parametrize("answer, serving", [(b"\x08\x01", True), (b"\x08\x02", False), (b"", False)])
def test_health_is_whether_the_server_serves(
    server: StandIn, client: lossd.Client, answer: bytes, serving: bool
) -> None:
    """SERVING of grpc.health.v1, and nothing else."""
    server.serving = answer

    assert client.health() is serving


def test_a_forked_child_opens_its_own_connection(server: StandIn) -> None:
    """Parent and child both go on with the client that they share."""
    done = run(
        """
        import os, sys, lossd
        client = lossd.Client(sys.argv[1])
        assert float(client.entropy([1.0])) is not None
        child = os.fork()
        if child == 0:
            client.entropy([1.0])
            client.close()
            os._exit(7)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7
        client.entropy([1.0])
        """,
        server.address,
    )

    assert done.returncode == 0, done.stderr
    assert server.rpcs == ["Entropy"] * 3


@pytest.mark.parametrize("ending", ["client.close()", "del client", "pass", "raise SystemExit(0)"])
def test_a_client_ends_without_noise(server: StandIn, ending: str) -> None:
    """Closed, forgotten or left to the interpreter's end: nothing on stderr."""
    done = run(
        f"import sys, lossd; client = lossd.Client(sys.argv[1]); client.entropy([1.0]); {ending}", server.address
    )

    assert (done.returncode, done.stderr) == (0, "")
