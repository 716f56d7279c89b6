"""`map` in processes of its own: how it ends, and what a fork does to it."""

from __future__ import annotations

import pytest

from tests.client.programs import run
from tests.client.stand_in import StandIn


@pytest.mark.parametrize("ending", ["results.close()", "del results", "client.close()", "pass", "raise SystemExit(0)"])
def test_a_map_that_is_left_ends_without_noise(server: StandIn, ending: str) -> None:
    """Closed, forgotten or left to the interpreter's end: nothing on stderr."""
    done = run(
        f"""
        import itertools, sys, lossd
        client = lossd.Client(sys.argv[1])
        results = client.map("entropy", itertools.repeat([1.0]))
        next(results)
        {ending}
        """,
        server.address,
    )

    assert (done.returncode, done.stderr) == (0, "")


def test_an_awaited_map_that_is_left_ends_without_noise(server: StandIn) -> None:
    """The same of the awaitable client."""
    done = run(
        """
        import asyncio, itertools, sys, lossd
        async def main():
            client = lossd.aio.Client(sys.argv[1])
            async for result in client.map("entropy", itertools.repeat([1.0])):
                break
        asyncio.run(main())
        """,
        server.address,
    )

    assert (done.returncode, done.stderr) == (0, "")


def test_a_forked_child_maps_over_its_own_stream(server: StandIn) -> None:
    """And so does its parent, before and after."""
    done = run(
        """
        import os, sys, lossd
        client = lossd.Client(sys.argv[1])
        assert len(list(client.map("entropy", [[1.0]] * 3))) == 3
        child = os.fork()
        if child == 0:
            assert len(list(client.map("entropy", [[1.0]] * 3))) == 3
            os._exit(7)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7
        assert len(list(client.map("entropy", [[1.0]] * 3))) == 3
        """,
        server.address,
    )

    assert done.returncode == 0, done.stderr
    assert server.rpcs.count("Stream") == 3
