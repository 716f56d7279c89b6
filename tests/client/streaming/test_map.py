"""Many evaluations over one stream, in order."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from typing import Any

import numpy as np
import pytest

import lossd
from lossd.rpc import protocol
from lossd.rpc.target import target
from lossd.streaming.map_window import WINDOW_BYTES
from lossd_server.errors import InvalidRequest, Overloaded
from tests.client.stand_in import StandIn
from tests.waiting import WAIT_S

WRONG = InvalidRequest("target[0] = 9 is outside [0, 3)", reason="CLASS_OUT_OF_RANGE", field="target")
FULL = Overloaded("the server is full", reason="OVERLOADED", retry_after_s=0.001)


def x(value: float) -> Any:
    return np.full((2, 3), value, np.float32)


def collect(server: StandIn, items: Any, **options: Any) -> list[Any]:
    """What the awaitable client's map gives."""

    async def main() -> list[Any]:
        async with lossd.aio.Client(server.address) as client:
            return [result async for result in client.map("entropy", items, **options)]

    return asyncio.run(main())


@pytest.fixture(params=["blocking", "awaitable"])
def mapped(request: pytest.FixtureRequest, server: StandIn) -> Iterator[Any]:
    """All that `map` gives, of either client."""
    if request.param == "awaitable":
        yield lambda items, **options: collect(server, items, **options)
    else:
        with lossd.Client(server.address) as client:
            yield lambda items, **options: list(client.map("entropy", items, **options))


@pytest.mark.parametrize("window", [1, 7, 1024])
def test_results_are_in_the_items_order(server: StandIn, mapped: Any, window: int) -> None:
    """One stream for all of them."""
    results = mapped((x(i) for i in range(500)), window=window)

    assert [float(result) for result in results] == list(range(500))
    assert server.rpcs == ["GetServerInfo", "Stream"]


def test_small_items_share_messages(server: StandIn, mapped: Any) -> None:
    """While a message is under way, the items that wait are put into the next."""
    mapped(x(i) for i in range(500))

    sizes = [len(message.opens.opens) for message in server.streams[0]]
    assert sum(sizes) == 500
    assert max(sizes) > 8


def test_messages_are_no_larger_than_the_server_takes(server: StandIn, mapped: Any) -> None:
    """However small that is."""
    server.max_message_bytes = 2000

    mapped(x(i) for i in range(100))

    assert max(message.ByteSize() for message in server.streams[0]) <= 2000


def test_items_are_tuples_dicts_or_single_tensors(server: StandIn, mapped: Any) -> None:
    """A dict's options are its own, before those of all."""
    mapped([x(1), (x(2),), {"input": x(3), "base": 3.0}], base=2.0)

    requests = [one.entropy for message in server.streams[0] for one in message.opens.opens]
    assert [request.base for request in requests] == [2.0, 2.0, 3.0]


def test_a_failed_item_raises_at_its_place(server: StandIn) -> None:
    """After the results before it."""
    server.failures.append(WRONG)
    with lossd.Client(server.address) as client:
        results = client.map("entropy", [{"input": x(0), "base": "two"}, x(1)], errors="yield")
        first, second = results

        assert isinstance(first, lossd.InvalidArgument)
        assert isinstance(second, lossd.InvalidArgument)
        assert (first.field, second.field) == ("base", "target")

        given = client.map("entropy", [x(0), {"input": None}, x(2)])
        assert float(next(given)) == 0
        with pytest.raises(lossd.InvalidArgument, match="input is None"):
            next(given)


def test_failures_are_yielded_where_that_is_asked_for(server: StandIn, mapped: Any) -> None:
    """Each in the place of its result."""
    results = mapped([x(0), (np.array(["a"]),), x(2)], errors="yield")

    assert [isinstance(result, lossd.Error) for result in results] == [False, True, False]


def test_a_full_server_is_asked_again(server: StandIn, mapped: Any) -> None:
    """Item by item."""
    server.failures.extend([FULL, FULL])

    assert [float(result) for result in mapped([x(0), x(1), x(2)])] == [0, 1, 2]
    assert server.rpcs == ["GetServerInfo", "Stream"]


@pytest.mark.parametrize("cut", [0, 1, 2])
def test_a_cut_stream_is_opened_again(server: StandIn, mapped: Any, cut: int) -> None:
    """What is unanswered is sent again; the iterable is read once."""
    server.cuts.extend([cut, cut])
    read: list[int] = []

    def items() -> Iterator[Any]:
        for i in range(300):
            read.append(i)
            yield x(i)

    assert [float(result) for result in mapped(items(), window=100)] == list(range(300))
    assert read == list(range(300))
    assert server.rpcs.count("Stream") == 3


def test_a_stream_that_was_not_read_is_opened_again(server: StandIn) -> None:
    """A caller may take its time: the server lets the stream go, which is no failure of the call's."""
    ended = lossd.DeadlineExceeded("the client has not read for 60 s", reason="STREAM_NOT_READ")

    error = protocol.explained(ended, protocol.Lifetime(), lambda: True, target(server.address))

    assert type(error) is lossd.Unavailable


def test_a_server_that_stays_away_raises(server: StandIn, mapped: Any) -> None:
    """Unavailable, once the time without progress is over."""
    server.cuts.extend([0] * 1000)

    with pytest.raises(lossd.Unavailable, match=r"was lost|broke off"):
        mapped([x(0)], timeout=0.2)


def test_a_stream_that_stands_still_is_given_up(server: StandIn, mapped: Any) -> None:
    """After the time without progress that was asked for."""
    server.held = True

    with pytest.raises(lossd.DeadlineExceeded, match=r"stood still for 0\.2 s"):
        mapped([x(0)], timeout=0.2)

    assert server.abandoned.wait(WAIT_S)


def test_the_window_bounds_what_is_read(server: StandIn) -> None:
    """And results come before more is read."""
    read: list[int] = []

    def items() -> Iterator[Any]:
        for i in range(100):
            read.append(i)
            yield x(i)

    with lossd.Client(server.address) as client:
        results = client.map("entropy", items(), window=10)
        for i, result in enumerate(results):
            assert float(result) == i
            assert len(read) <= i + 11


def test_the_window_is_bounded_in_bytes(server: StandIn) -> None:
    """Whatever the items weigh."""
    read: list[int] = []
    large = np.zeros((1024, WINDOW_BYTES // (1 << 14)), np.float32)

    def items() -> Iterator[Any]:
        for i in range(20):
            read.append(i)
            yield large

    with lossd.Client(server.address) as client:
        next(client.map("entropy", items()))

    assert len(read) <= 5


def test_an_exception_of_the_iterable_passes_through(server: StandIn, mapped: Any) -> None:
    """As it is."""

    def items() -> Iterator[Any]:
        yield x(0)
        raise LookupError("no more")

    with pytest.raises(LookupError, match="no more"):
        mapped(items())


def test_async_iterables_are_read_too(server: StandIn) -> None:
    """By the task that reads the map."""

    async def items() -> AsyncIterator[Any]:
        for i in range(5):
            await asyncio.sleep(0)
            yield x(i)

    assert [float(result) for result in collect(server, items(), window=2)] == list(range(5))


def test_large_items_go_in_blocks_between_small_ones(server: StandIn, mapped: Any) -> None:
    """On the same stream, with their gradients."""
    large = np.arange(3 << 20, dtype=np.float32).reshape(-1, 1024)

    results = mapped([x(1), large, x(2)], grad=True)

    assert [float(result) for result in results] == [1, 0, 2]
    assert results[1].grad.tobytes() == large.tobytes()
    assert server.rpcs == ["GetServerInfo", "Stream"]


def test_activations_are_mapped_to_their_values(server: StandIn) -> None:
    """Arrays, as the method gives them."""
    with lossd.Client(server.address) as client:
        assert [value.tolist() for value in client.map("softmax", [x(1)])] == [x(1).tolist()]


def test_a_closed_generator_cancels_what_is_under_way(server: StandIn) -> None:
    """The server sees the stream end; the client goes on."""
    with lossd.Client(server.address) as client:
        results: Any = client.map("entropy", [x(0), {"input": np.ones((2 << 20, 4), np.float32)}, x(1)], window=3)
        next(results)
        results.close()

        assert server.over.acquire(timeout=WAIT_S)
        assert float(client.entropy(x(5))) == 5


@pytest.mark.parametrize(
    "options, field",
    [
        ({"errors": "ignore"}, "errors"),
        ({"window": 0}, "window"),
        ({"window": 1.5}, "window"),
        ({"transport": "x"}, "transport"),
    ],
)
def test_wrong_options_are_refused_at_once(client: lossd.Client, options: dict[str, Any], field: str) -> None:
    """Not when the first item is read."""
    with pytest.raises(lossd.InvalidArgument) as caught:
        client.map("entropy", [], **options)

    assert caught.value.field == field


def test_an_unknown_method_is_refused_at_once(client: lossd.Client) -> None:
    """Naming the known ones."""
    with pytest.raises(lossd.InvalidArgument, match="method must be 'entropy', "):
        client.map("mse", [])


def test_nothing_is_mapped_to_nothing(server: StandIn, mapped: Any) -> None:
    """Without a stream."""
    assert mapped([]) == []
    assert "Stream" not in server.rpcs


def test_a_wrong_number_of_tensors_is_a_type_error(server: StandIn, mapped: Any) -> None:
    """It is the program that is wrong, so it is raised where errors are yielded too."""
    with pytest.raises(TypeError, match="takes 1 tensors"):
        mapped([(x(0), x(0))], errors="yield")


def test_closing_the_client_ends_a_map(server: StandIn) -> None:
    """Unavailable: this client is closed."""
    client = lossd.Client(server.address)
    results = client.map("entropy", [x(i) for i in range(10)], window=1)
    next(results)
    client.close()

    with pytest.raises(lossd.Unavailable, match="this client is closed"):
        list(results)
