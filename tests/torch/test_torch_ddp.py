"""DistributedDataParallel over gloo: two processes of this machine, each with a client of its own to one server."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from lossd_server.embedded import EmbeddedServer
from tests.torch.ddp_worker import WORLD, model, train
from tests.waiting import WAIT_S

WORKER = Path(__file__).with_name("ddp_worker.py")
WAYS = ("functional", "module", "remote", "RemoteTensor")
Found = dict[str, list[Tensor]]


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> list[Found]:
    """What each process came to."""
    folder = tmp_path_factory.mktemp("ddp")
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path)), "GLOO_SOCKET_IFNAME": "lo"}
    with EmbeddedServer() as server:
        command = [sys.executable, str(WORKER), str(folder / "rendezvous")]
        workers = [
            subprocess.Popen(
                [*command, str(rank), server.address, str(folder / f"{rank}.pt")],
                env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
            )
            for rank in range(WORLD)
        ]  # fmt: skip
        try:
            said = [worker.communicate(timeout=2 * WAIT_S)[0] for worker in workers]
        finally:
            for worker in workers:
                worker.kill()
                worker.wait()
    for worker, words in zip(workers, said, strict=True):
        assert worker.returncode == 0, words
    return [torch.load(folder / f"{rank}.pt") for rank in range(WORLD)]


@pytest.mark.parametrize("way", WAYS)
def test_gradients_are_those_of_the_local_loss(found: list[Found], way: str) -> None:
    """After two steps, parameters and averaged gradients are those of PyTorch's loss under the same DDP."""
    for of_rank in found:
        for ours, theirs in zip(of_rank[way], of_rank["local"], strict=True):
            torch.testing.assert_close(ours, theirs, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("way", ["local", *WAYS])
def test_both_processes_have_one_model(found: list[Found], way: str) -> None:
    """Their parameters stay equal to the bit, and are those of one process that sees all rows."""
    for first, second in zip(found[0][way], found[1][way], strict=True):
        torch.testing.assert_close(first, second, rtol=0, atol=0)
    for ours, alone in zip(found[0][way], train(model(), F.cross_entropy, slice(None)), strict=True):
        torch.testing.assert_close(ours, alone, rtol=1e-10, atol=1e-12)
