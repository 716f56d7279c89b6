"""Both clients with the server in this process: real losses over a real socket."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import ml_dtypes
import numpy as np
import pytest
import torch

import lossd
from lossd.request.build import METHODS
from tests.client.programs import run

LOG3 = math.log(3)


@pytest.fixture(scope="module")
def client() -> Iterator[lossd.Client]:
    with lossd.Client("embedded") as client:
        yield client


def test_the_four_losses_answer(client: lossd.Client) -> None:
    """Uniform logits and probabilities have closed answers: ln 3, and ln 2 an element; 1 bit for a fair coin."""
    zeros = np.zeros((2, 3), np.float32)

    assert float(client.cross_entropy(zeros, [0, 2])) == pytest.approx(LOG3)
    assert float(client.bce_with_logits(zeros, zeros)) == pytest.approx(math.log(2))
    assert float(client.bce(zeros + 0.5, zeros)) == pytest.approx(math.log(2))
    assert float(client.entropy([[0.5, 0.5]], base=2)) == 1.0


def test_its_text_names_no_socket(client: lossd.Client) -> None:
    """Its path is nobody's business."""
    assert repr(client).startswith("<lossd.Client embedded, ")


def test_gradients_are_the_kind_and_dtype_of_their_tensor(client: lossd.Client) -> None:
    """torch's bfloat16 for torch's, ml_dtypes' for numpy's."""
    logits = torch.zeros(2, 3, dtype=torch.bfloat16, requires_grad=True)
    targets = torch.tensor([0, 1])

    ours = client.cross_entropy(logits, targets, grad=True, reduction="sum").grad
    theirs = client.cross_entropy(np.zeros((2, 3), ml_dtypes.bfloat16), targets, grad=True, reduction="sum").grad

    assert ours.dtype == torch.bfloat16
    assert theirs.dtype == ml_dtypes.bfloat16
    assert ours.tolist() == theirs.tolist()


def test_losses_by_row_have_their_own_shape(client: lossd.Client) -> None:
    """(N, d1) for an input of (N, C, d1)."""
    result = client.cross_entropy(np.zeros((2, 3, 5)), np.ones((2, 5), np.int32), reduction="none")

    assert result.loss.dtype == np.dtype(np.float64)
    assert result.loss == pytest.approx(np.full((2, 5), LOG3))


def test_a_wrong_class_is_named(client: lossd.Client) -> None:
    """Field, index, value and bound, all the way from the kernel."""
    with pytest.raises(lossd.InvalidArgument, match=r"target\[1\].*7.*\[0, 3\)") as caught:
        client.cross_entropy(np.zeros((2, 3), np.float32), [0, 7])

    assert caught.value.field == "target"


def test_the_server_lists_every_method(client: lossd.Client) -> None:
    """GetServerInfo tells which losses are served: all of them."""
    assert set(client.info().losses) == {method.rpc for method in METHODS.values()}


def test_a_message_over_the_limit_is_refused_here(client: lossd.Client) -> None:
    """Before it is sent: the server's limit is asked for, and named."""
    with pytest.raises(lossd.TooLarge, match="max_message_bytes"):
        client.entropy(np.ones((1, client.info().limits.max_message_bytes // 4), np.float32), transport="unary")


def test_64_threads_share_a_client(client: lossd.Client) -> None:
    """Each gets the loss of its own shape."""

    def loss(c: int) -> float:
        return float(client.cross_entropy(np.zeros((3, c), np.float32), np.zeros(3, np.int64)))

    with ThreadPoolExecutor(64) as pool:
        losses = list(pool.map(loss, range(1, 193)))

    assert losses == pytest.approx([math.log(c) for c in range(1, 193)])


def test_the_awaitable_client_embeds_a_server_too() -> None:
    """64 calls at once, and a second server in the same process."""

    async def main() -> list[float]:
        async with lossd.aio.Client("embedded") as client:
            assert await client.health()
            calls = [client.cross_entropy(np.zeros((3, c), np.float32), [0, 0, 0]) for c in range(1, 65)]
            return [float(result) for result in await asyncio.gather(*calls)]

    assert asyncio.run(main()) == pytest.approx([math.log(c) for c in range(1, 65)])


def test_an_embedded_server_ends_without_noise() -> None:
    """Closed, forgotten or left to the interpreter's end, in one process: status 0, nothing on stderr."""
    done = run(
        """
        import lossd
        closed, forgotten, left = (lossd.Client("embedded") for _ in range(3))
        for client in (closed, forgotten, left):
            client.entropy([[0.5, 0.5]])
        closed.close()
        del forgotten, client
        """
    )

    assert (done.returncode, done.stderr) == (0, "")


def test_an_awaitable_clients_embedded_server_ends_without_noise() -> None:
    """Closed or left to the interpreter's end."""
    done = run(
        """
        import asyncio, lossd
        closed, left = lossd.aio.Client("embedded"), lossd.aio.Client("embedded")
        async def main():
            await asyncio.gather(closed.entropy([[0.5, 0.5]]), left.entropy([[0.5, 0.5]]))
            await closed.close()
        asyncio.run(main())
        """
    )

    assert (done.returncode, done.stderr) == (0, "")


def test_a_forked_child_may_have_a_server_of_its_own() -> None:
    """Though its parent has one, whose library does not survive a fork."""
    done = run(
        """
        import os, sys, lossd
        client = lossd.Client("embedded")
        client.entropy([0.5, 0.5])
        child = os.fork()
        if child == 0:
            for _ in range(2):
                with lossd.Client("embedded") as own:
                    print(f"{float(own.entropy([0.5, 0.5])):.6f}", flush=True)
            os._exit(0)
        sys.exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
        """
    )

    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == ["0.693147"] * 2


def test_a_forked_child_uses_its_parents_server() -> None:
    """And leaves it running when it closes."""
    done = run(
        """
        import os, lossd
        client = lossd.Client("embedded")
        client.entropy([[0.5, 0.5]])
        child = os.fork()
        if child == 0:
            client.entropy([[0.5, 0.5]])
            client.close()
            os._exit(7)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7
        client.entropy([[0.5, 0.5]])
        client.close()
        """
    )

    # Core remarks on stderr that the server's thread was inside gRPC at the fork.
    assert done.returncode == 0, done.stderr
