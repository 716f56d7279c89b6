"""`lossd serve --workers N`: several processes behind one port."""

from __future__ import annotations

import multiprocessing
import os
import pickle
import select
import signal
import socket
import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path

import grpc
import pytest

from lossd.shared_memory import socket_protocol
from lossd.v1.service_pb2_grpc import LossServiceStub
from lossd_server.config.address import check_free, reserve
from lossd_server.config.settings import Settings, SettingsError
from lossd_server.processes.restart_backoff import FIRST_S, LONGEST_S, WELL_S, RestartBackoff
from lossd_server.processes.start_words import StartWord, receive_word, send_word
from lossd_server.processes.supervisor import last_words
from lossd_server.processes.worker_share import share
from tests.server.messages import cross_entropy
from tests.server.processes.worker_processes import CHANNEL, answering, children, info, instances, two_workers
from tests.server.server_process import environment
from tests.waiting import until


def test_two_processes_answer_on_one_port() -> None:
    """Connections reach two processes; each tells the whole's limits and the number of workers; SIGTERM ends all."""
    with two_workers("--max-inflight-bytes", "64MiB") as (child, address):
        assert child.stdout is not None
        lines = [child.stdout.readline() for _ in range(3)]
        found = answering(address, 2)
        workers = children(child.pid)
        child.send_signal(signal.SIGTERM)

        assert child.wait(30) == 0
        assert lines[2].rstrip().endswith("workers=2")
        assert [said.workers for said in found.values()] == [2, 2]
        assert [said.limits.max_inflight_bytes for said in found.values()] == [64 << 20] * 2
        assert len(workers) == 2
        assert not any(Path(f"/proc/{pid}").exists() for pid in workers)


def test_a_killed_worker_is_replaced() -> None:
    """The other one goes on answering, a new process takes the place, and what was counted stays counted."""
    with two_workers() as (child, address):
        before = instances(address, 2)
        for _ in range(8):
            with grpc.insecure_channel(address, options=CHANNEL) as channel:
                LossServiceStub(channel).CrossEntropy(cross_entropy(), timeout=30, wait_for_ready=True)
        # A worker tells the others ten times a second.
        until(lambda: info(address).statistics.completed == 8, "the other worker knows of all 8 calls")
        os.kill(children(child.pid)[0], signal.SIGKILL)
        until(lambda: info(address).instance_id not in before, "a new process answers")

        assert info(address).statistics.completed == 8
        assert len(children(child.pid)) == 2


def test_the_shared_memory_of_a_killed_worker() -> None:
    """Whoever answers names a socket that is there: its own. The killed one's is gone once it is replaced."""
    with two_workers() as (child, address):
        before = answering(address, 2)
        os.kill(children(child.pid)[0], signal.SIGKILL)

        def replaced() -> bool:
            said = info(address)
            with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as peer:
                peer.connect(said.shared_memory_socket)
                peer.send(socket_protocol.HELLO)
                assert socket_protocol.read_greeting(peer.recv(socket_protocol.ANSWER_BYTES)) == said.instance_id
            return said.instance_id not in before

        until(replaced, "a new process answers")

        assert sum(Path(said.shared_memory_socket).exists() for said in before.values()) == 1


def test_workers_end_with_their_parent() -> None:
    """A parent that is killed leaves no worker behind."""
    with two_workers() as (child, address):
        workers = children(child.pid)
        fds = [os.pidfd_open(pid) for pid in workers]
        child.kill()
        child.wait(30)

        assert all(select.select([fd], [], [], 30)[0] for fd in fds)
        check_free(address)


def test_a_second_server_is_refused() -> None:
    """A port that workers share is not shared with another server."""
    with two_workers() as (_, address):
        again = [sys.executable, "-m", "lossd_server", "--device", "cpu", "--workers", "2", "--listen", address]
        other = subprocess.run(again, env=environment(), capture_output=True, text=True, timeout=60, check=False)

        assert other.returncode == 1
        assert f"cannot listen on {address}" in other.stderr


def test_a_worker_that_cannot_start_ends_the_start() -> None:
    """Its own sentence is what the user reads, and the status is 1."""
    flags = ["--workers", "2", "--listen", "127.0.0.1:0", "--device", "cuda"]
    env = {**environment(), "CUDA_VISIBLE_DEVICES": ""}
    done = subprocess.run(
        [sys.executable, "-m", "lossd_server", *flags],
        env=env,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )

    assert done.returncode == 1
    assert done.stderr.startswith("lossd serve: device cuda cannot be used")


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"workers": 0}, "workers = 0 must be above 0"),
        ({"workers": 2, "listen": ("unix:/tmp/lossd",)}, "cannot share a Unix socket"),
        ({"workers": 4, "max_inflight_bytes": 32 << 20}, "shared by 4 workers"),
    ],
)
def test_settings_that_cannot_be(settings: dict[str, object], sentence: str) -> None:
    """What several processes cannot do is refused before any is started."""
    with pytest.raises(SettingsError, match=sentence):
        Settings(**settings)  # type: ignore[arg-type]  # wrong on purpose


def test_last_words() -> None:
    """Why a successor could not start is known from its pipe; one that was ready, or killed, said nothing of it."""
    found = []
    for words in ([StartWord("no such device")], [StartWord(device="CPU", backend="numba")], []):
        ours, theirs = multiprocessing.Pipe(duplex=False)
        for word in words:
            send_word(theirs, word)
        theirs.close()
        found.append(last_words(ours))

    assert found == ["no such device", "", ""]


@pytest.mark.parametrize(
    "said",
    [pickle.dumps(("failed", "sentence")), b"", b"[1, 2, 3]", b'["a"]', b'{"failed": "x"}', b"[" * 50_000],
    ids=["a pickle", "nothing", "numbers", "one text", "an object", "nested"],
)
def test_what_is_no_word_of_a_start_is_an_end(said: bytes) -> None:
    """Nothing that a worker sends is unpickled, and nothing else of it is taken for a word."""
    ours, theirs = multiprocessing.Pipe(duplex=False)
    theirs.send_bytes(said)

    with pytest.raises(OSError, match="no word of its start"):
        receive_word(ours)


def test_of_a_long_sentence_the_beginning_is_said() -> None:
    """Whatever characters it has."""
    ours, theirs = multiprocessing.Pipe(duplex=False)
    send_word(theirs, StartWord("\U0001f600" * 9000))

    assert receive_word(ours).failed == "\U0001f600" * 2048


def test_shares() -> None:
    """Each worker has its part of every limit that is given for the whole."""
    own = share(Settings(workers=4, threads=8, max_inflight_bytes=1 << 30, max_inflight_requests=100), 1)

    assert (own.workers, own.threads, own.max_inflight_bytes, own.max_inflight_requests) == (1, 2, 1 << 28, 25)


def test_the_wait_before_a_restart() -> None:
    """It doubles to its end, and begins anew after a worker that lived well."""
    backoff = RestartBackoff()
    waits = [backoff.wait_s(1.0) for _ in range(9)]

    assert waits[:3] == [FIRST_S, 2 * FIRST_S, 4 * FIRST_S]
    assert waits[-1] == LONGEST_S
    assert backoff.wait_s(WELL_S) == FIRST_S


def test_a_reserved_port_is_not_free() -> None:
    """Port 0 is picked by the parent, and nobody else gets it."""
    with ExitStack() as stack:
        address = reserve("127.0.0.1:0", stack)

        with pytest.raises(OSError, match="cannot listen"):
            check_free(address)
