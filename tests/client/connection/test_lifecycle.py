"""A client before and after its calls: its loops' ends, its threads' and children's, its pickle and its copies."""

from __future__ import annotations

import asyncio
import copy
import pickle
import threading
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import lossd
from lossd.rpc.credentials import Credentials
from tests.client.programs import run
from tests.client.stand_in import StandIn

X = np.full((2, 3), 1.5, np.float32)

# Each ends its loop in its own way; the last without asking those who use it, so it may have no stream under way.
LOOPS = {
    "run": "asyncio.run(work())",
    "uvloop": "uvloop.run(work())",
    "thread": "t = threading.Thread(target=lambda: asyncio.run(work())); t.start(); t.join()",
    "close": "loop = asyncio.new_event_loop(); loop.run_until_complete(work()); loop.close()",
}
MANY_LOOPS = """
    import asyncio, gc, os, sys, threading
    import numpy as np
    import uvloop
    import lossd
    from tests.waiting import until

    X = np.full((2, 3), 1.5, np.float32)
    client = lossd.aio.Client(sys.argv[1])

    async def work():
        await client.info()
        if sys.argv[2] != "close":
            await asyncio.gather(*[client.entropy(X) for _ in range(16)])
            await client.entropy(X, transport="stream")

    def descriptors():
        gc.collect()
        return len(os.listdir("/proc/self/fd"))

    def loops(count):
        for _ in range(count):
            LOOP

    loops(5)
    few = descriptors()
    loops(45)
    until(lambda: descriptors() <= few, "the descriptors of closed loops are closed")
    asyncio.run(client.close())
    print(len(client._connections._entries))
"""


@pytest.mark.parametrize("loop", LOOPS)
def test_fifty_loops_cost_what_one_does(server: StandIn, loop: str) -> None:
    """Entries, channels and descriptors go with their loop; nothing is said on stderr."""
    done = run(MANY_LOOPS.replace("LOOP", LOOPS[loop]), server.address, loop)

    assert (done.stderr, done.stdout, done.returncode) == ("", "0\n", 0)


def test_a_loop_that_ends_closes_its_connections(server: StandIn) -> None:
    """While it can still be waited for: nobody has to ask."""
    client = lossd.aio.Client(server.address)

    async def work() -> Any:
        await client.entropy(X)
        return client._opened().all[0]

    connection = asyncio.run(work())

    assert connection._channel.get_state().name == "SHUTDOWN"
    assert repr(client).endswith("not yet connected>")
    assert asyncio.run(client.entropy(X)) is not None


def test_loops_at_once_have_connections_of_their_own(server: StandIn) -> None:
    """Closing in one leaves those of the others; the client is closed for all."""
    client = lossd.aio.Client(server.address)
    together = threading.Barrier(4)
    found: list[Any] = []

    async def work() -> None:
        await client.entropy(X)
        found.append(client._opened())
        await asyncio.to_thread(together.wait, 30)

    threads = [threading.Thread(target=lambda: asyncio.run(work())) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert len({id(one) for one in found}) == 4
    assert not client._connections


def test_threads_that_end_leave_nothing(server: StandIn, client: lossd.Client) -> None:
    """The process's threads share one connection."""
    for _ in range(50):
        thread = threading.Thread(target=client.entropy, args=(X,))
        thread.start()
        thread.join()

    assert len(client._connections._entries) == 1
    assert len(client._opened().all) == 1


def test_a_child_of_a_child_opens_its_own_connection(server: StandIn) -> None:
    """Of both clients; and leaves its parents', whose loop is closed, alone."""
    done = run(
        """
        import asyncio, os, sys, lossd, numpy as np
        X = np.float32([1.5])
        client, awaitable = lossd.Client(sys.argv[1]), lossd.aio.Client(sys.argv[1])
        async def ask():
            return await awaitable.entropy(X)
        for depth in range(3):
            assert float(client.entropy(X)) == float(asyncio.run(ask())) == 1.5
            child = os.fork()
            if child:
                assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == (7 if depth == 2 else 0)
                assert float(client.entropy(X)) == float(asyncio.run(ask())) == 1.5
                break
        os._exit(7 if depth == 2 and not child else 0)
        """,
        server.address,
    )

    assert done.returncode == 0, done.stderr
    assert server.rpcs == ["Entropy"] * 12


class Named(lossd.Client):
    """A user's own client."""


def pickled(protocol: int) -> Callable[[Any], Any]:
    return lambda client: pickle.loads(pickle.dumps(client, protocol))


COPIES: dict[str, Callable[[Any], Any]] = {
    **{f"pickle {protocol}": pickled(protocol) for protocol in range(pickle.HIGHEST_PROTOCOL + 1)},
    "copy": copy.copy,
    "deepcopy": copy.deepcopy,
}


@pytest.mark.parametrize("way", COPIES)
@pytest.mark.parametrize("kind", [lossd.Client, lossd.aio.Client, Named])
def test_a_copy_has_the_address_and_the_options(server: StandIn, way: str, kind: Any) -> None:
    """Before the first call and after it; its connections are its own."""
    client = kind(server.address, timeout=7, connect_timeout=3, max_response_bytes=1 << 20, token="t")
    fresh = COPIES[way](client)

    async def use() -> None:
        async with client:
            assert float(await client.entropy(X)) == 1.5
            used = COPIES[way](client)
            assert repr(used).endswith(f"{server.address}, not yet connected>")
            assert not used._lifetime.reached
            async with used:
                assert float(await used.entropy(X)) == 1.5
                await client.close()
                assert float(await used.entropy(X)) == 1.5

    def use_blocking() -> None:
        with client:
            assert float(client.entropy(X)) == 1.5
            used = COPIES[way](client)
            assert repr(used).endswith(f"{server.address}, not yet connected>")
            assert not used._lifetime.reached
            with used:
                assert float(used.entropy(X)) == 1.5
                client.close()
                assert float(used.entropy(X)) == 1.5

    if kind is lossd.aio.Client:
        asyncio.run(use())
    else:
        use_blocking()
    assert type(fresh) is kind
    assert fresh.__getstate__() == (server.address, 7.0, 3.0, 1 << 20, Credentials(token="t"), True, False)


@pytest.mark.parametrize("way", COPIES)
def test_a_copy_of_a_closed_client_is_closed(server: StandIn, way: str) -> None:
    """Whoever closed it wants no more calls; an embedded one starts no server."""
    closed, embedded = lossd.Client(server.address), lossd.Client("embedded")
    closed.close()
    embedded.close()

    for client in (COPIES[way](closed), COPIES[way](embedded)):
        with pytest.raises(lossd.Unavailable, match="this client is closed"):
            client.entropy(X)
        client.close()


def test_an_address_of_the_environment_is_pickled_as_it_was(monkeypatch: pytest.MonkeyPatch, server: StandIn) -> None:
    """Where it is unpickled, the variable may say something else."""
    monkeypatch.setenv("LOSSD_SERVER", server.address)
    sent = pickle.dumps(lossd.Client())
    monkeypatch.setenv("LOSSD_SERVER", "127.0.0.1:1")

    with pickle.loads(sent) as client:
        assert float(client.entropy(X)) == 1.5


@pytest.mark.parametrize("method", ["spawn", "forkserver", "fork"])
def test_processes_take_a_client_that_has_been_used(server: StandIn, method: str) -> None:
    """As an argument, whichever way they are started."""
    done = run(
        f"""
        import multiprocessing, operator, sys, lossd, numpy as np
        X = np.float32([1.5])
        client = lossd.Client(sys.argv[1])
        client.entropy(X)
        with multiprocessing.get_context("{method}").Pool(2) as pool:
            results = pool.map(operator.methodcaller("entropy", X), [client] * 4)
        print([float(one) for one in results])
        """,
        server.address,
    )

    assert (done.returncode, done.stdout) == (0, "[1.5, 1.5, 1.5, 1.5]\n"), done.stderr


def test_a_process_that_takes_an_embedded_client_has_a_server_of_its_own() -> None:
    """Its parent's may end meanwhile; and so has a copy in the same process."""
    done = run(
        """
        import copy, multiprocessing, operator, lossd
        client = lossd.Client("embedded")
        client.entropy([0.5, 0.5])
        other = copy.copy(client)
        client_id, other_id = client.info().instance_id, other.info().instance_id
        with multiprocessing.get_context("spawn").Pool(1) as pool:
            child_id = pool.apply(operator.methodcaller("info"), (client,)).instance_id
        print(len({client_id, other_id, child_id}))
        client.close()
        other.entropy([0.5, 0.5])
        """
    )

    assert (done.returncode, done.stdout, done.stderr) == (0, "3\n", "")
