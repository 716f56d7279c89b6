"""Small calls that share a stream, over real sockets, against scripted answers."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import numpy as np
import pytest

import lossd
from lossd_server.errors import GoingAway, InvalidRequest
from tests.client.programs import run
from tests.client.stand_in import StandIn
from tests.waiting import WAIT_S, until_awaited

X = np.full((2, 3), 1.5, np.float32)


@pytest.fixture(autouse=True)
def lasting(monkeypatch: pytest.MonkeyPatch) -> None:
    """Streams stay open however slow the machine is."""
    monkeypatch.setattr("lossd.streaming.multiplexed.IDLE_S", 300.0)
    monkeypatch.setattr("lossd.streaming.multiplexed.LIFE_S", 300.0)


def use(server: StandIn, work: Callable[[lossd.aio.Client], Awaitable[Any]]) -> Any:
    """The result of `work` with a client that shares a stream, in a loop of its own."""

    async def main() -> Any:
        async with lossd.aio.Client(server.address) as client:
            await answered_until(client, lambda: bool(server.streams and server.streams[-1]), "calls share a stream")
            return await work(client)

    return asyncio.run(main())


async def answered_until(client: lossd.aio.Client, holds: Callable[[], bool], what: str) -> None:
    """Makes several calls at once, each with its own answer, until something holds."""

    async def asked() -> bool:
        assert [float(one) for one in await several(client, 8)] == list(range(8))
        return holds()

    await until_awaited(asked, what)


async def several(client: lossd.aio.Client, count: int, **options: Any) -> list[Any]:
    calls = [client.entropy(np.full((1, 4), i, np.float32), **options) for i in range(count)]
    return await asyncio.gather(*calls, return_exceptions=True)


def unary(server: StandIn) -> int:
    """Evaluations that went by themselves so far."""
    return server.rpcs.count("Entropy")


def test_calls_at_once_share_messages(server: StandIn) -> None:
    """Each gets its own answer, and none goes by itself."""

    async def work(client: lossd.aio.Client) -> None:
        before, messages = unary(server), len(server.streams[-1])
        results = await several(client, 64)

        assert [float(result) for result in results] == list(range(64))
        assert unary(server) == before
        assert sum(len(one.opens.opens) for one in server.streams[-1][messages:]) == 64
        assert len(server.streams[-1]) - messages < 8
        assert all(result.timing.total_s > 0 for result in results)

    use(server, work)


def test_calls_one_after_the_other_come_to_share(server: StandIn) -> None:
    """A client that is used once opens no stream."""

    async def main() -> None:
        async with lossd.aio.Client(server.address) as client:

            async def shared() -> bool:
                assert float(await client.entropy(X)) == 1.5
                return bool(server.streams)

            assert not await shared()
            assert server.rpcs == ["Entropy"]
            await until_awaited(shared, "calls one after the other share a stream")

    asyncio.run(main())


def test_activations_share_too(server: StandIn) -> None:
    """And options are each call's own."""

    async def work(client: lossd.aio.Client) -> None:
        before = len(server.rpcs)
        values = await asyncio.gather(client.sigmoid(X), client.softmax(X, dim=1), client.cross_entropy(X, [0, 0]))

        assert values[0].tolist() == values[1].tolist() == X.tolist()
        assert float(values[2]) == 1.5
        assert len(server.rpcs) == before

    use(server, work)


def test_arrays_are_read_when_the_call_begins(server: StandIn) -> None:
    """What is written to them later does not matter."""

    async def work(client: lossd.aio.Client) -> None:
        x = X.copy()
        task = asyncio.ensure_future(client.entropy(x))
        await asyncio.sleep(0)
        x[:] = 7

        assert float(await task) == 1.5

    use(server, work)


def test_an_evaluation_fails_alone(server: StandIn) -> None:
    """With the class and the field that a call by itself would have raised."""

    async def work(client: lossd.aio.Client) -> None:
        server.failures.append(InvalidRequest("input has no rows", reason="INVALID_SHAPE", field="input"))
        failed, *rest = await several(client, 8)

        assert isinstance(failed, lossd.InvalidArgument)
        assert failed.field == "input"
        assert [float(one) for one in rest] == list(range(1, 8))

    use(server, work)


def test_a_passing_failure_is_repeated(server: StandIn) -> None:
    """A server that drains says so for each evaluation."""

    async def work(client: lossd.aio.Client) -> None:
        server.failures.append(GoingAway("the server is stopping", reason="GOING_AWAY", retry_after_s=0.01))

        assert [float(one) for one in await several(client, 8)] == list(range(8))
        assert not server.failures

    use(server, work)


def test_calls_on_a_stream_that_is_cut_go_by_themselves(server: StandIn) -> None:
    """Losses are pure: nobody sees it."""
    server.cuts.append(2)

    async def work(client: lossd.aio.Client) -> None:
        before = unary(server)
        await answered_until(client, lambda: unary(server) > before, "calls go by themselves when their stream is cut")

    use(server, work)


def test_a_call_by_itself_says_what_is_the_matter(server: StandIn) -> None:
    """Where the stream and the calls fail for the same reason."""

    async def work(client: lossd.aio.Client) -> None:
        server._server.stop(None).wait()
        for one in await several(client, 4, timeout=0.3):
            assert isinstance(one, lossd.Unavailable)

    use(server, work)


def test_each_call_has_its_deadline(server: StandIn) -> None:
    """The stream has none; further calls do not join what held one up."""

    async def work(client: lossd.aio.Client) -> None:
        server.held = True
        assert all(isinstance(one, lossd.DeadlineExceeded) for one in await several(client, 4, timeout=0.2))
        assert await asyncio.to_thread(server.abandoned.wait, WAIT_S)
        server.held = False

        assert [float(one) for one in await several(client, 4)] == list(range(4))

    use(server, work)


def test_a_cancelled_task_drops_its_answer(server: StandIn) -> None:
    """The others get theirs."""

    async def work(client: lossd.aio.Client) -> None:
        server.held = True
        tasks = [asyncio.ensure_future(client.entropy(np.full((1, 4), i, np.float32))) for i in range(4)]
        assert await asyncio.to_thread(server.entered.wait, WAIT_S)
        tasks[0].cancel()
        await asyncio.sleep(0)
        server.release.set()
        found = await asyncio.gather(*tasks, return_exceptions=True)

        assert isinstance(found[0], asyncio.CancelledError)
        assert [float(one) for one in found if isinstance(one, lossd.Result)] == [1, 2, 3]

    use(server, work)


def test_cancelling_all_of_them_ends_the_stream(server: StandIn) -> None:
    """The server need not go on."""

    async def work(client: lossd.aio.Client) -> None:
        server.held = True
        tasks = [asyncio.ensure_future(client.entropy(X)) for _ in range(4)]
        assert await asyncio.to_thread(server.entered.wait, WAIT_S)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

        assert await asyncio.to_thread(server.abandoned.wait, WAIT_S)

    use(server, work)


def test_closing_ends_calls_that_share(server: StandIn) -> None:
    """They raise Unavailable, not CancelledError: nobody cancelled their tasks."""

    async def work(client: lossd.aio.Client) -> None:
        server.held = True
        tasks = [asyncio.ensure_future(client.entropy(X)) for _ in range(4)]
        assert await asyncio.to_thread(server.entered.wait, WAIT_S)
        await client.close()
        for one in await asyncio.gather(*tasks, return_exceptions=True):
            assert isinstance(one, lossd.Unavailable)
            assert "this client is closed" in str(one)

    use(server, work)


@pytest.mark.parametrize("options", [{"transport": "unary"}, {"grad": True, "out": np.empty((1, 4), np.float32)}])
def test_who_asks_for_it_has_a_call_of_its_own(server: StandIn, options: dict[str, Any]) -> None:
    """transport="unary", and gradients that land in the caller's array."""

    async def work(client: lossd.aio.Client) -> None:
        before = unary(server)
        await several(client, 4, **options)

        assert unary(server) == before + 4

    use(server, work)


@pytest.mark.parametrize("ending", ["await client.close()", "del client", "pass"])
def test_a_client_that_shares_ends_without_noise(server: StandIn, ending: str) -> None:
    """Closed or forgotten: nothing on stderr."""
    done = run(
        f"""
        import asyncio, sys, lossd
        async def main():
            client = lossd.aio.Client(sys.argv[1])
            for _ in range(32):
                await asyncio.gather(*[client.entropy([1.0]) for _ in range(8)])
            {ending}
        asyncio.run(main())
        """,
        server.address,
    )

    assert (done.returncode, done.stderr) == (0, "")
    assert server.streams


def test_a_server_whose_streams_all_fail_is_asked_call_by_call(server: StandIn) -> None:
    """That is not for the caller to hear."""
    server.cuts.extend([0] * 100)

    async def main() -> list[Any]:
        async with lossd.aio.Client(server.address) as client:
            return [await several(client, 8) for _ in range(20)]

    assert [[float(one) for one in found] for found in asyncio.run(main())] == [list(range(8))] * 20
    assert len(server.cuts) < 100


def test_a_stream_that_carries_nothing_is_closed(server: StandIn, monkeypatch: pytest.MonkeyPatch) -> None:
    """A server has room for few; calls that come later open another."""
    monkeypatch.setattr("lossd.streaming.multiplexed.IDLE_S", 0.01)

    async def work(client: lossd.aio.Client) -> None:
        shared = client._connection()._shared
        assert shared is not None
        await until_awaited(lambda: not shared.is_open, "a stream that carries nothing is closed")
        before = len(server.streams)
        await answered_until(client, lambda: len(server.streams) > before, "later calls open another stream")

    use(server, work)


def test_a_stream_that_is_always_busy_is_replaced(server: StandIn, monkeypatch: pytest.MonkeyPatch) -> None:
    """So that a balancer may deal it to another server; no call notices."""
    monkeypatch.setattr("lossd.streaming.multiplexed.IDLE_S", 0.01)
    monkeypatch.setattr("lossd.streaming.multiplexed.LIFE_S", 0.0)

    async def work(client: lossd.aio.Client) -> None:
        before = len(server.streams)
        await answered_until(client, lambda: len(server.streams) >= before + 2, "a busy stream is replaced, twice")

    use(server, work)
