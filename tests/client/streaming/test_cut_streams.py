"""One large call over a stream that breaks, stands still or is refused, against scripted answers."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from math import inf
from typing import Any

import numpy as np
import pytest

import lossd
from lossd.routing import block_plan
from lossd.rpc import protocol
from lossd.rpc.retry import Retry
from lossd.streaming.reconnecting_stream import ReconnectingStream
from lossd_server.errors import GoingAway, InvalidRequest, Overloaded
from tests.client.stand_in import StandIn
from tests.waiting import WAIT_S

X = np.arange(4000, dtype=np.float32).reshape(1000, 4) + 1


@pytest.fixture(autouse=True)
def _small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(block_plan, "BLOCK_BYTES", 1600)


@pytest.fixture(params=["blocking", "awaitable"])
def entropy(request: pytest.FixtureRequest, server: StandIn) -> Iterator[Any]:
    """`entropy` of either client, over a stream."""

    def awaited(*operands: Any, **options: Any) -> Any:
        async def main() -> Any:
            async with lossd.aio.Client(server.address) as client:
                return await client.entropy(*operands, transport="stream", **options)

        return asyncio.run(main())

    if request.param == "awaitable":
        yield awaited
    else:
        with lossd.Client(server.address) as client:
            yield lambda *operands, **options: client.entropy(*operands, transport="stream", **options)


def test_a_call_is_an_open_its_blocks_and_an_end(server: StandIn, entropy: Any) -> None:
    """Items in order, each once; the Open says shape and dtype."""
    result = entropy(X, grad=True, base=2)

    said = server.streams[0]
    assert [message.WhichOneof("message") for message in said] == ["open", *["block"] * 10, "end"]
    assert list(said[0].open.entropy.input.shape) == [1000, 4]
    assert said[0].open.entropy.input.HasField("streamed")
    assert said[0].open.entropy.base == 2
    assert [message.block.first_item for message in said[1:-1]] == list(range(0, 1000, 100))
    assert result.grad.tobytes() == X.tobytes()
    assert float(result) == 1


@pytest.mark.parametrize("cut", [0, 1, 5, 11])
def test_a_cut_stream_is_repeated_from_the_start(server: StandIn, entropy: Any, cut: int) -> None:
    """Wherever it broke; the answer is the same."""
    server.cuts.extend([cut, cut])

    assert entropy(X, grad=True).grad.tobytes() == X.tobytes()
    assert [len(stream) for stream in server.streams] == [cut, cut, 12]


def test_a_stream_that_never_gets_further_fails_clearly(server: StandIn, entropy: Any) -> None:
    """With what cut it, once its time is over."""
    server.cuts.extend([5] * 1000)

    with pytest.raises(lossd.Unavailable, match=r"was lost|broke off"):
        entropy(X, timeout=0.5)


@pytest.mark.parametrize("kind", [Overloaded, GoingAway])
def test_a_refusal_that_passes_is_repeated(server: StandIn, entropy: Any, kind: Any) -> None:
    """On the same stream, since the evaluation failed alone."""
    server.failures.append(kind("later", reason="LATER", retry_after_s=0.001))

    assert float(entropy(X)) == 1
    assert server.rpcs == ["GetServerInfo", "Stream"]


def test_a_refusal_that_lasts_is_raised(server: StandIn, entropy: Any) -> None:
    """With field and reason."""
    server.failures.append(InvalidRequest("input is wrong", reason="WRONG", field="input"))

    with pytest.raises(lossd.InvalidArgument, match="input is wrong") as caught:
        entropy(X)

    assert (caught.value.field, caught.value.reason) == ("input", "WRONG")


def test_a_timeout_bounds_the_whole_stream(server: StandIn, entropy: Any) -> None:
    """DeadlineExceeded, and the server sees it given up."""
    server.held = True

    with pytest.raises(lossd.DeadlineExceeded):
        entropy(X, timeout=0.2)

    assert server.abandoned.wait(WAIT_S)


def test_a_stream_that_stands_still_is_given_up(server: StandIn) -> None:
    """After the client's own time, where the call names none."""
    server.held = True

    with (
        lossd.Client(server.address, timeout=0.2) as client,
        pytest.raises(lossd.DeadlineExceeded, match="stood still"),
    ):
        client.entropy(X, transport="stream")

    assert server.abandoned.wait(WAIT_S)


def test_closing_the_client_ends_a_stream(server: StandIn) -> None:
    """Unavailable, and it is not opened again."""
    server.held = True

    async def main() -> None:
        client = lossd.aio.Client(server.address)
        task = asyncio.ensure_future(client.entropy(X, transport="stream"))
        assert await asyncio.to_thread(server.entered.wait, WAIT_S)
        await client.close()
        with pytest.raises(lossd.Unavailable, match="this client is closed"):
            await task

    asyncio.run(main())


def test_cancelling_a_task_cancels_its_stream(server: StandIn) -> None:
    """CancelledError here, and the server sees the call given up."""
    server.held = True

    async def main() -> None:
        async with lossd.aio.Client(server.address) as client:
            task = asyncio.ensure_future(client.entropy(X, transport="stream"))
            assert await asyncio.to_thread(server.entered.wait, WAIT_S)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            assert await asyncio.to_thread(server.abandoned.wait, WAIT_S)

    asyncio.run(main())


@pytest.mark.parametrize("cut", [3, 8])
def test_a_call_in_place_is_not_sent_twice(server: StandIn, entropy: Any, cut: int) -> None:
    """Once gradients have overwritten a part of its input there is nothing left that could be sent again."""
    server.cuts.append(cut)
    array = X.copy()

    with pytest.raises(lossd.Unavailable, match="not sent again"):
        entropy(array, grad=True, out=array)
    assert len(server.streams) == 1


def test_a_call_in_place_is_sent_again_before_its_first_gradient(server: StandIn, entropy: Any) -> None:
    """A stream that was cut at once has overwritten nothing."""
    server.cuts.append(0)
    array = X.copy()
    result = entropy(array, grad=True, out=array)

    assert result.grad is array
    assert array.tobytes() == X.tobytes()


@pytest.mark.parametrize(("left_s", "kind"), [(0.0, lossd.DeadlineExceeded), (0.01, lossd.Unavailable)])
def test_a_stream_that_breaks_off_at_its_deadline_is_late(left_s: float, kind: type[lossd.Error]) -> None:
    """What gRPC says of a write that the deadline caught names no reason."""
    now_s = [0.0]
    retry = Retry(1.0, clock=lambda: now_s[0])
    now_s[0] = 1.0 - left_s

    def broken(*_: Any) -> Any:
        raise lossd.Unavailable("it broke off", reason=protocol.STREAM_ENDED)

    def explain(error: BaseException) -> lossd.Error:
        assert isinstance(error, lossd.Error)
        return error

    stream = ReconnectingStream(broken, explain, retry, inf, 0)
    with pytest.raises(kind):
        stream.take(wait=True)
