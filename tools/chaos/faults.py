"""Faults that are done to servers and to client processes, one after the other, drawn from a seed."""

from __future__ import annotations

import os
import random
import resource
import signal
import threading
import time
from collections.abc import Callable, Sequence
from math import inf

from chaos.caches import Caches
from chaos.clients import Clients
from chaos.history import Fault, Faults
from chaos.processes import GONE, limit, virtual_bytes
from chaos.servers import START_S, Server, answers

# A supervisor kills a worker that stands still for 8 s.
STALLED_S = 10.0
# Where shared memory that is larger cannot be made: below the size of every region.
FILE_BYTES = 1 << 20


class ServerFaults:
    """To servers. authorities: by the name of each server, "" where it has no TLS."""

    def __init__(
        self, servers: Sequence[Server], authorities: dict[str, str], faults: Faults, caches: Caches, seed: str
    ) -> None:
        self._servers, self._authorities, self._faults, self._caches = servers, authorities, faults, caches
        self._rng = random.Random(f"server faults {seed}")
        self.wrong: list[str] = []
        self._order: list[Callable[[Server], None]] = []

    def run(self, over: threading.Event) -> None:
        """One after the other, each kind once in every round, until it is over."""
        while not over.is_set():
            if not self._order:
                self._order = [self.kill, self.stop, self.drain, self.memory, self.descriptors, self.cache, self.kill]
                self._rng.shuffle(self._order)
            server = self._rng.choice(self._servers)
            with server.lock:
                self._order.pop()(server)
            over.wait(self._rng.uniform(0.2, 1.5))

    def kill(self, server: Server) -> None:
        """SIGKILL to a worker, whose supervisor starts another; else to the server, which is started again."""
        if server.count == 1:
            fault = self._begin("server killed", server)
            server.kill()
            self._start(server, fault)
            return
        fault = self._begin("worker killed", server)
        old = server.serving
        self._signal(self._rng.choice(old), signal.SIGKILL)
        self._until_whole(server, fault, set(old))

    def stop(self, server: Server) -> None:
        """SIGSTOP, and SIGCONT; now and then for so long that a supervisor kills the worker."""
        whole = set(server.serving)
        pid = self._rng.choice(sorted(whole))
        long = server.count > 1 and self._rng.random() < 0.25
        fault = self._begin("worker stopped" if server.count > 1 else "server stopped", server)
        self._signal(pid, signal.SIGSTOP)
        time.sleep(STALLED_S if long else self._rng.uniform(0.1, 3.0))
        self._signal(pid, signal.SIGCONT)
        if long:
            self._until_whole(server, fault, whole)
        else:
            fault.end = time.monotonic()

    def drain(self, server: Server, **variables: str) -> None:
        """SIGTERM under load, and a start."""
        fault = self._begin("server drained", server)
        self._drain(server)
        self._start(server, fault, **variables)

    def cache(self, server: Server) -> None:
        """A drain, and a start whose kernel cache is damaged, full, or no folder at all."""
        kind, folder = self._caches.draw(self._rng)
        fault = self._begin(kind, server)
        self._drain(server)
        self._start(server, fault, LOSSD_CACHE_DIR=folder)

    def memory(self, server: Server) -> None:
        """A limit on the address space a little beyond what the process has, for a while."""
        self._limited(server, "memory limit", resource.RLIMIT_AS, lambda pid: virtual_bytes(pid) + self._megabytes())

    def descriptors(self, server: Server) -> None:
        """A limit on descriptors a little beyond what it has, for a while."""

        def most(pid: int) -> int:
            return max(map(int, os.listdir(f"/proc/{pid}/fd"))) + self._rng.randrange(1, 4)

        self._limited(server, "descriptor limit", resource.RLIMIT_NOFILE, most)

    def mend(self) -> None:
        """Starts what has ended."""
        for server in self._servers:
            with server.lock:
                if server.has_ended:
                    server.start()

    def _megabytes(self) -> int:
        return self._rng.choice((2, 8, 32, 100)) << 20

    def _limited(self, server: Server, kind: str, what: int, most: Callable[[int], int]) -> None:
        fault = self._begin(kind, server)
        whole = set(server.serving)
        pid = self._rng.choice(sorted(whole))
        try:
            limit(pid, what, most(pid))
            time.sleep(self._rng.uniform(0.3, 2.0))
            limit(pid, what, resource.RLIM_INFINITY)
        except GONE:
            pass  # it has ended of it
        if server.count == 1 and server.has_ended:
            self.wrong.append(f"{server.name} has ended of a {kind}")
            self._start(server, fault)
            return
        if server.count > 1 and pid not in server.serving:
            self.wrong.append(f"a worker of {server.name} has ended of a {kind}")
            self._until_whole(server, fault, whole)
            return
        self._until_answers(server, fault)

    def _drain(self, server: Server) -> None:
        wrong = server.drain()
        if wrong:
            self.wrong.append(wrong)

    def _start(self, server: Server, fault: Fault, **variables: str) -> None:
        try:
            server.start(**variables)
        except RuntimeError as error:
            self.wrong.append(f"{error} ({fault.kind})")
            server.start()
        self._until_answers(server, fault)

    def _until_whole(self, server: Server, fault: Fault, old: set[int]) -> None:
        """Until all workers are there again, and one that was not before."""
        end = time.monotonic() + START_S
        while len(server.serving) < server.count or set(server.serving) <= old:
            if time.monotonic() > end:
                self.wrong.append(
                    f"{server.name} has {len(server.serving)} workers {START_S:.0f} s after a {fault.kind}"
                )
                break
            time.sleep(0.1)
        self._until_answers(server, fault)

    def _until_answers(self, server: Server, fault: Fault) -> None:
        if not answers(server.address, 30.0, self._authorities[server.name]):
            self.wrong.append(f"{server.name} does not answer 30 s after a {fault.kind}")
        fault.end = time.monotonic()

    def _begin(self, kind: str, server: Server) -> Fault:
        return self._faults.add(Fault(kind, server.name, time.monotonic(), inf))

    @staticmethod
    def _signal(pid: int, number: signal.Signals) -> None:
        try:
            os.kill(pid, number)
        except ProcessLookupError:
            return


class ClientFaults:
    """To client processes."""

    def __init__(self, clients: Clients, faults: Faults, seed: str) -> None:
        self._clients, self._faults = clients, faults
        self._rng = random.Random(f"client faults {seed}")

    def run(self, over: threading.Event) -> None:
        order: list[Callable[[], None]] = []
        while not over.is_set():
            if not order:
                order = [self.kill, self.stop, self.no_shared_memory]
                self._rng.shuffle(order)
            order.pop()()
            over.wait(self._rng.uniform(0.2, 1.0))

    def kill(self) -> None:
        """SIGKILL to one whose place another takes."""
        name = self._clients.victim
        fault = self._faults.add(Fault("client killed", name, time.monotonic()))
        self._clients.replace()
        fault.end = time.monotonic()

    def stop(self) -> None:
        """SIGSTOP, for longer than a server waits for a body now and then, and SIGCONT."""
        name, pid = self._clients.draw(self._rng)
        fault = self._faults.add(Fault("client stopped", name, time.monotonic(), inf))
        os.kill(pid, signal.SIGSTOP)
        time.sleep(self._rng.choice((0.1, 0.5, 1.0, 2.0, 7.0)))
        os.kill(pid, signal.SIGCONT)
        fault.end = time.monotonic()

    def no_shared_memory(self) -> None:
        """No memory to share can be made: as where it is full."""
        name, pid = self._clients.draw(self._rng)
        fault = self._faults.add(Fault("no shared memory", name, time.monotonic(), inf))
        limit(pid, resource.RLIMIT_FSIZE, FILE_BYTES)
        time.sleep(self._rng.uniform(0.5, 3.0))
        limit(pid, resource.RLIMIT_FSIZE, resource.RLIM_INFINITY)
        fault.end = time.monotonic()
