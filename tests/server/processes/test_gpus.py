"""`lossd serve --workers N` on several GPUs, which are pretended: who has which, and what is refused."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import grpc
import pytest

from lossd.v1.service_pb2_grpc import LossServiceStub
from lossd_server.config import gpus
from tests.server.messages import cross_entropy
from tests.server.metrics.scraping import scraped
from tests.server.processes.pretended_gpus import LOST, PretendedServer, pretended
from tests.server.processes.worker_processes import CHANNEL, answering, children, info
from tests.waiting import WAIT_S, until


def devices(address: str, count: int) -> set[str]:
    """What each of the workers there says that it computes on."""
    return {said.device for said in answering(address, count).values()}


def address_of(said: list[str]) -> str:
    return said[0].removeprefix("listening on ")


def memory_of(url: str) -> dict[str, tuple[str, float]]:
    """The device of each worker, and how much of it is in use, by the worker."""
    found = scraped(url).series("lossd_device_memory_bytes", kind="used")
    return {labels["worker"]: (labels["device"], value) for labels, value in found}


def refused(server: PretendedServer) -> str:
    """The sentence of a server that does not start."""
    assert server.child.wait(WAIT_S) == 1
    until(lambda: bool(server.lines), "it says why")
    return "".join(server.lines)


@pytest.mark.parametrize("flags", [(), ("--device", "cuda")])
def test_worker_i_has_gpu_i(tmp_path: Path, flags: tuple[str, ...]) -> None:
    """GetServerInfo, what is printed, the metrics and the log name it; a GPU without a worker stays alone."""
    with pretended(tmp_path, 3, "--workers", "2", *flags) as server:
        said = server.said()
        found = devices(address_of(said), 2)
        until(lambda: len(memory_of(said[-1].split()[1])) == 2, "both tell of their memory")

        assert found == {"pretended, GPU 0", "pretended, GPU 1"}
        assert said[1:4] == ["device pretended, GPU 0", "device pretended, GPU 1", "backend triton"]
        assert memory_of(said[-1].split()[1]) == {"0": ("pretended, GPU 0", 1), "1": ("pretended, GPU 1", 2)}
        until(lambda: sum("worker answers" in line for line in server.lines) == 2, "both are in the log")
        for worker in (0, 1):
            (line,) = [line for line in server.lines if f"worker={worker} " in line]
            assert f'device="pretended, GPU {worker}"' in line


def test_one_process_has_the_first_of_them(tmp_path: Path) -> None:
    """Without --workers there is one process, on one GPU, however many are there."""
    with pretended(tmp_path, 2, visible="1,0") as server:
        said = server.said()

        assert said[1:3] == ["device pretended, GPU 1", "backend triton"]
        assert info(address_of(said)).workers == 1


def test_a_worker_in_the_place_of_another_has_its_gpu(tmp_path: Path) -> None:
    """Of CUDA_VISIBLE_DEVICES each has the entry of its place: the next one too, after a lost device and a kill."""
    with pretended(tmp_path, 3, "--workers", "2", visible="2,0") as server:
        said = server.said()
        address, url = address_of(said), said[-1].split()[1]
        assert devices(address, 2) == {"pretended, GPU 2", "pretended, GPU 0"}
        with grpc.insecure_channel(address, options=CHANNEL) as channel, pytest.raises(grpc.RpcError):
            LossServiceStub(channel).CrossEntropy(cross_entropy(ignore_index=LOST), timeout=30, wait_for_ready=True)
        until(lambda: scraped(url).value("lossd_worker_restarts_total") == 1, "another has its place")
        assert devices(address, 2) == {"pretended, GPU 2", "pretended, GPU 0"}
        os.kill(children(server.child.pid)[0], signal.SIGKILL)
        until(lambda: scraped(url).value("lossd_worker_restarts_total") == 2, "another has that one's")

        assert devices(address, 2) == {"pretended, GPU 2", "pretended, GPU 0"}
        until(lambda: len(memory_of(url)) == 2, "both tell of their memory")
        assert memory_of(url) == {"0": ("pretended, GPU 2", 3), "1": ("pretended, GPU 0", 1)}
        assert all('device="pretended, GPU' in line for line in server.lines if "worker ended" in line)


def test_a_gpu_that_is_gone_is_waited_for(tmp_path: Path) -> None:
    """With --device auto, too, nobody computes on a CPU beside others on GPUs: the log says what is missing."""
    with pretended(tmp_path, 2, "--workers", "2") as server:
        address = address_of(server.said())
        answering(address, 2)
        server.there_are(1)
        for pid in children(server.child.pid):
            os.kill(pid, signal.SIGKILL)
        until(
            lambda: any("device cuda cannot be used" in line for line in server.lines), "the log says what is missing"
        )
        assert info(address).device == "pretended, GPU 0"
        server.there_are(2)

        assert devices(address, 2) == {"pretended, GPU 0", "pretended, GPU 1"}


@pytest.mark.parametrize(
    "device, there, visible, shown",
    [
        ("cuda", 2, None, "2 GPUs"),
        ("auto", 1, None, "1 GPU"),
        ("auto", 4, "3,1", "2 GPUs (CUDA_VISIBLE_DEVICES=3,1)"),
        ("cuda", 4, "0,4,1", "1 GPU (CUDA_VISIBLE_DEVICES=0,4,1)"),  # none is seen after one that is not there
    ],
)
def test_more_workers_than_gpus(tmp_path: Path, device: str, there: int, visible: str | None, shown: str) -> None:
    """They are refused before any is started."""
    with pretended(tmp_path, there, "--workers", "3", "--device", device, visible=visible) as server:
        said = refused(server)

        assert said == (
            f"lossd serve: workers = 3, but CUDA shows {shown}, and each worker needs one of its own:"
            f" give --workers {shown[0]}, or --device cpu\n"
        )


@pytest.mark.parametrize("visible", ["7", "", "-1", "GPU-00000000"])
def test_a_gpu_that_is_not_there(tmp_path: Path, visible: str) -> None:
    """The server does not start on another one."""
    with pretended(tmp_path, 2, "--workers", "2", "--device", "cuda", visible=visible) as server:
        assert refused(server).startswith("lossd serve: device cuda cannot be used: there is no CUDA device")


def test_no_gpu_at_all(tmp_path: Path) -> None:
    """With --device auto all compute on the CPU, as many as are asked for."""
    with pretended(tmp_path, 0, "--workers", "2", "--threads", "2") as server:
        said = server.said()

        assert "backend numba" in said
        assert len([line for line in said if line.startswith("device ")]) == 1
        assert len(devices(address_of(said), 2)) == 1


@pytest.mark.parametrize(
    "variable, index, expected",
    [
        (None, 0, "0"),
        (None, 5, "5"),
        ("2,0", 0, "2"),
        (" 2 , GPU-8932f937 ", 1, "GPU-8932f937"),
        ("2,0", 2, ""),
        ("", 0, ""),
        ("MIG-a,MIG-b", 1, "MIG-b"),
    ],
)
def test_what_a_worker_sees(variable: str | None, index: int, expected: str) -> None:
    """The entry of its place, and nothing where there is none."""
    environ = {} if variable is None else {gpus.VISIBLE: variable}

    assert gpus.of_worker(environ, index) == expected


@pytest.mark.parametrize(
    "variable, expected",
    [(None, ""), ("", ""), ("3", "GPU 3"), (" 3 ,1", "GPU 3"), ("GPU-8932f937", "GPU-8932f937")],
)
def test_what_a_gpu_is_called(variable: str | None, expected: str) -> None:
    """As CUDA_VISIBLE_DEVICES calls it, where that is set."""
    assert gpus.name_of_first({} if variable is None else {gpus.VISIBLE: variable}) == expected


def test_no_driver(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the driver's library cannot be loaded there are no GPUs."""

    def absent(name: str) -> None:
        raise OSError(f"{name}: cannot open shared object file")

    monkeypatch.setattr(gpus, "CDLL", absent)

    assert gpus.count() == 0
