"""The awaitable client over real sockets, against scripted answers."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import grpc
import numpy as np
import pytest

import lossd
from lossd_server.errors import InvalidRequest
from tests.client.programs import run
from tests.client.stand_in import StandIn
from tests.waiting import WAIT_S

X = np.full((2, 3), 1.5, np.float32)


def use(server: StandIn, work: Callable[[lossd.aio.Client], Awaitable[Any]]) -> Any:
    """The result of `work` with a client, in a loop of its own."""

    async def main() -> Any:
        async with lossd.aio.Client(server.address) as client:
            return await work(client)

    return asyncio.run(main())


def test_an_answer_is_a_result(server: StandIn) -> None:
    """The same as the blocking client's."""
    result = use(server, lambda client: client.cross_entropy(X, [0, 0], grad=True))

    assert float(result) == 1.5
    assert result.grad.tolist() == X.tolist()


def test_a_client_says_where_it_goes_and_how_it_is(server: StandIn) -> None:
    """Inside of an event loop or not."""
    client = lossd.aio.Client(server.address)
    said = [repr(client)]

    async def work() -> None:
        async with client:
            await client.entropy(X)
            said.append(repr(client))

    asyncio.run(work())
    said.append(repr(client))

    states = ("not yet connected", "connected", "closed")
    assert said == [f"<lossd.aio.Client {server.address}, {state}>" for state in states]


def test_activations_info_and_health_are_awaitable(server: StandIn) -> None:
    """Every verb is."""
    assert use(server, lambda client: client.sigmoid(X)).tolist() == X.tolist()
    assert use(server, lambda client: client.info()).version == "0.0"
    assert use(server, lambda client: client.health()) is True


def test_64_calls_run_at_once(server: StandIn) -> None:
    """Each gets its own answer."""

    async def work(client: lossd.aio.Client) -> list[float]:
        calls = [client.entropy(np.full((1, 4), i, np.float32)) for i in range(64)]
        return [float(result) for result in await asyncio.gather(*calls)]

    assert use(server, work) == list(range(64))


def test_a_wrong_option_is_raised_when_awaited(server: StandIn) -> None:
    """So that gather can return it like any other failure."""

    async def work(client: lossd.aio.Client) -> list[Any]:
        call: Any = client.entropy
        return [*await asyncio.gather(call(X, base="two"), call(X), return_exceptions=True)]

    wrong, right = use(server, work)
    assert isinstance(wrong, lossd.InvalidArgument)
    assert float(right) == 1.5


def test_passing_failures_are_repeated(server: StandIn) -> None:
    """By the same policy."""
    server.failures.extend([grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED])

    assert float(use(server, lambda client: client.entropy(X))) == 1.5
    assert len(server.rpcs) == 3


def test_lasting_failures_are_raised(server: StandIn) -> None:
    """With the server's field."""
    server.failures.append(InvalidRequest("input has no rows", reason="INVALID_SHAPE", field="input"))

    with pytest.raises(lossd.InvalidArgument, match="input has no rows") as caught:
        use(server, lambda client: client.entropy(X))

    assert caught.value.field == "input"


def test_a_call_ends_with_its_deadline(server: StandIn) -> None:
    """DeadlineExceeded."""
    server.held = True

    with pytest.raises(lossd.DeadlineExceeded):
        use(server, lambda client: client.entropy(X, timeout=0.2))


def test_cancelling_a_task_cancels_its_call(server: StandIn) -> None:
    """CancelledError here, and the server sees the call given up."""
    server.held = True

    async def work(client: lossd.aio.Client) -> None:
        task = asyncio.ensure_future(client.entropy(X))
        assert await asyncio.to_thread(server.entered.wait, WAIT_S)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert await asyncio.to_thread(server.abandoned.wait, WAIT_S)

    use(server, work)


def test_closing_ends_calls_under_way(server: StandIn) -> None:
    """They raise Unavailable, not CancelledError: nobody cancelled their tasks."""
    server.held = True

    async def work(client: lossd.aio.Client) -> None:
        task = asyncio.ensure_future(client.entropy(X))
        assert await asyncio.to_thread(server.entered.wait, WAIT_S)
        await client.close()
        with pytest.raises(lossd.Unavailable, match="this client is closed"):
            await task

    use(server, work)


def test_a_closed_client_says_so(server: StandIn) -> None:
    """Whatever is asked of it."""

    async def work(client: lossd.aio.Client) -> None:
        await client.entropy(X)
        await client.close()
        with pytest.raises(lossd.Unavailable, match="this client is closed"):
            await client.entropy(X)

    use(server, work)


def test_a_client_serves_one_loop_after_another(server: StandIn) -> None:
    """Each loop has a channel of its own."""
    client = lossd.aio.Client(server.address)

    async def work() -> float:
        return float(await client.entropy(X))

    assert [asyncio.run(work()), asyncio.run(work())] == [1.5, 1.5]


@pytest.mark.parametrize("ending", ["await client.close()", "del client", "pass"])
def test_a_client_ends_without_noise(server: StandIn, ending: str) -> None:
    """Closed or forgotten: nothing on stderr."""
    done = run(
        f"""
        import asyncio, sys, lossd
        async def main():
            client = lossd.aio.Client(sys.argv[1])
            await client.entropy([1.0])
            {ending}
        asyncio.run(main())
        """,
        server.address,
    )

    assert (done.returncode, done.stderr) == (0, "")
