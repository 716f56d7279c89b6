"""A run: servers, proxy, right answers, load with faults, the end of faults, and what is left."""

from __future__ import annotations

import json
import random
import subprocess
import sys
import tempfile
import threading
import time
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import lossd
from chaos import report, truth
from chaos.caches import Caches
from chaos.clients import Clients
from chaos.credentials import Credentials
from chaos.faults import ClientFaults, ServerFaults
from chaos.history import Fault, Faults
from chaos.leaks import leaked
from chaos.load import TIMEOUT_S, Spec
from chaos.operations import Operation, table
from chaos.processes import Holdings, descendants, holdings, is_zombie
from chaos.routes import Route
from chaos.servers import Server

SETTLE_S = 30.0
# With its faults over, until a run has its calm: connections that were cut are made again.
CALM_S = 3.0
# What each is there for: every way and a Unix socket; two processes on a port; TLS and tokens that change.
SERVERS = ("plain", "workers", "tls")
# What a server's log has only where it was at fault.
TELLTALES = ("Traceback", "internal error", "Error: ", "coredump", "never awaited")


@dataclass(frozen=True, slots=True)
class Plan:
    """seconds, operations: the load goes on until both are reached, but no longer than most_s. most_bytes: of an
    operation's input. servers: names of SERVERS. clients: processes, beside the one that is killed. compiles: whether a
    server is started without kernels. keep: where a history is written."""

    seed: int
    seconds: float
    operations: int
    most_s: float
    most_bytes: int
    servers: tuple[str, ...]
    clients: int
    compiles: bool
    keep: Path

    @property
    def command(self) -> str:
        return (
            f"python -m chaos --seed {self.seed} --seconds {self.seconds:g} --operations {self.operations}"
            f" --most-bytes {self.most_bytes} --servers {','.join(self.servers)} --clients {self.clients}"
        )


class Run:
    """`do` returns the exit status. wrong: sentences, beside the verdicts on operations."""

    def __init__(self, plan: Plan, folder: Path) -> None:
        self._plan, self._folder = plan, folder
        self._rng = random.Random(f"run {plan.seed}")
        self._faults = Faults()
        self._tally = report.Tally()
        self._table: list[Operation] = table(plan.seed, plan.most_bytes)
        self._warm: dict[str, Holdings] = {}
        self._credentials = Credentials(folder, self._faults, "tls")
        fronts = ["http2", "grpcio"]
        self._rng.shuffle(fronts)
        self.fronts = {"plain": fronts[0], "workers": fronts[1], "tls": self._rng.choice(fronts)}
        socket = f"unix:{folder}/socket"
        tls = ["--tls-cert", str(self._credentials.cert), "--tls-key", str(self._credentials.key)]
        tls += ["--tokens", str(self._credentials.tokens)]
        servers = [
            Server("plain", folder, 1, self._flags("plain"), threading.Lock(), socket),
            Server("workers", folder, 2, self._flags("workers"), threading.Lock()),
            Server("tls", folder, 1, [*self._flags("tls"), *tls], self._credentials.fit),
        ]
        self._servers = [one for one in servers if one.name in plan.servers]
        self.wrong: list[str] = []

    def do(self) -> int:
        with ExitStack() as stack:
            stack.callback(self._kill)
            self._start()
            routes = self._routes(self._proxied(stack))
            right, no_way = self._truth(routes)
            for server in self._servers:
                self._warm[server.name] = _largest(server)
            self._say(f"{len(self._table)} operations, {self.fronts}, {len(routes)} routes")
            spec = Spec("", str(self._plan.seed), self._plan.seed, self._plan.most_bytes, tuple(routes), right, no_way)
            self._load(spec, stack)
            self._calm(spec)
            self._settle()
            self._end()
        told = report.Told(self._plan.seed, self._plan.command, self._tally.records, self._faults, self.wrong)
        return told.conclude(self._plan.keep, self._folder.glob("*.log"))

    def _flags(self, name: str) -> list[str]:
        limit = 256 if name == "workers" else 128
        flags = ["--front", self.fronts[name], "--max-inflight-bytes", f"{limit}MiB", "--threads", "2"]
        return [*flags, "--max-shared-memory-bytes", "96MiB"]

    def _start(self) -> None:
        """Servers beside each other: most of a start is imports. Raises RuntimeError."""
        failures: list[str] = []

        def one(server: Server) -> None:
            try:
                server.start()
            except RuntimeError as error:
                failures.append(str(error))

        threads = [threading.Thread(target=one, args=(server,)) for server in self._servers]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        if failures:
            raise RuntimeError("; ".join(failures))

    def _proxied(self, stack: ExitStack) -> dict[str, int]:
        """Ports of the proxy by server."""
        upstreams = [f"{one.name}{'!' if one.name == 'tls' else ''}={one.address}" for one in self._servers]
        proxy = subprocess.Popen(
            [sys.executable, "-m", "chaos.proxy", str(self._plan.seed), *upstreams],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self._proxy = proxy
        stack.callback(proxy.wait)
        stack.callback(proxy.kill)
        assert proxy.stdout is not None
        ports: dict[str, int] = json.loads(proxy.stdout.readline())
        lines = proxy.stdout
        threading.Thread(
            target=lambda: [self._faults.add(Fault(**json.loads(line))) for line in lines], daemon=True
        ).start()
        return ports

    def _routes(self, ports: dict[str, int]) -> list[Route]:
        at = {one.name: one.address for one in self._servers}
        ca, token = str(self._credentials.ca), self._credentials.token
        cut = {name: f"127.0.0.1:{port}" for name, port in ports.items()}
        found = []
        if "plain" in at:
            found.append(Route("tcp", "plain", at["plain"], shared=True))
            found.append(Route("unix", "plain", f"unix:{self._folder}/socket", shared=True))
            found.append(Route("proxy", "plain", cut["plain"], proxied=True, shared=True))
        if "workers" in at:
            found.append(Route("workers", "workers", at["workers"]))
            found.append(Route("workers proxy", "workers", cut["workers"], proxied=True))
        if "tls" in at:
            found.append(Route("tls", "tls", at["tls"], shared=True, ca=ca, token=token))
            found.append(Route("tls proxy", "tls", cut["tls"], proxied=True, shared=True, ca=ca, token=token))
        return found

    def _truth(self, routes: list[Route]) -> tuple[tuple[str, ...], frozenset[tuple[int, str]]]:
        """Asked of one server by what the client chooses, then of all by every way."""
        with lossd.Client(routes[0].address, timeout=TIMEOUT_S, **routes[0].options()) as client:
            right = truth.expected(client, self._table, routes[0])
            no_way = truth.impossible(client, self._table, routes[0], right)
        for route in (one for one in routes[1:] if not one.proxied):
            with lossd.Client(route.address, timeout=TIMEOUT_S, **route.options()) as client:
                truth.impossible(client, self._table, route, right)
        return right, no_way

    def _load(self, spec: Spec, stack: ExitStack) -> None:
        clients = Clients(spec, self._plan.clients, self._folder, self._tally.add)
        stack.callback(clients.kill)
        clients.wait()
        caches = Caches(self._folder, self._plan.compiles)
        stack.callback(caches.close)
        options = {one.name: str(self._credentials.ca) if one.name == "tls" else "" for one in self._servers}
        servers = ServerFaults(self._servers, options, self._faults, caches, str(self._plan.seed))
        over = threading.Event()
        threads = [
            threading.Thread(target=one, args=(over,))
            for one in (servers.run, ClientFaults(clients, self._faults, str(self._plan.seed)).run, self._rotate)
        ]
        start = time.monotonic()
        for thread in threads:
            thread.start()
        told = start
        while (now := time.monotonic()) - start < self._plan.most_s and (
            now - start < self._plan.seconds or self._tally.checked < self._plan.operations
        ):
            time.sleep(0.1)
            if now - told > 30:
                told = now
                self._say(f"{now - start:5.0f} s: {self._tally.checked:,} operations, {len(self._faults.all):,} faults")
        over.set()
        for thread in threads:
            thread.join()
        assert self._proxy.stdin is not None
        self._proxy.stdin.write("calm\n")
        self._proxy.stdin.flush()
        servers.mend()
        self._credentials.restore()
        time.sleep(CALM_S)
        self.wrong += servers.wrong + clients.end()

    def _rotate(self, over: threading.Event) -> None:
        rng = random.Random(f"credentials {self._plan.seed}")
        while not over.is_set():
            self._credentials.change(rng, rng.uniform(0.2, 1.2))

    def _calm(self, spec: Spec) -> None:
        """With the faults over everything is answered, by every server and way."""
        for route in (one for one in spec.routes if not one.proxied):
            try:
                with lossd.Client(route.address, timeout=2 * TIMEOUT_S, **route.options()) as client:
                    truth.impossible(client, self._table, route, spec.expected)
            except (lossd.Error, truth.Untrue) as error:
                self.wrong.append(f"after the faults, over {route.name}: {error!r}")

    def _settle(self) -> None:
        end = time.monotonic() + SETTLE_S
        while (left := self._left()) and time.monotonic() < end:
            time.sleep(0.2)
        self.wrong += left

    def _left(self) -> list[str]:
        found = []
        for server in self._servers:
            secret = {"ca": str(self._credentials.ca), "token": self._credentials.token} if server.name == "tls" else {}
            try:
                with lossd.Client(server.address, **secret) as client:  # type: ignore[arg-type]
                    now = client.info(timeout=TIMEOUT_S).statistics
            except lossd.Error as error:
                found.append(f"{server.name} does not say what it holds: {error!r}")
                continue
            if now.inflight_bytes or now.inflight_requests:
                found.append(f"{server.name}: {now.inflight_bytes} bytes of {now.inflight_requests} requests are held")
            for pid in server.serving:
                found += leaked(f"{server.name} {pid}", self._warm[server.name], holdings(pid))
            zombies = [one for one in descendants(server.pid) if is_zombie(one)]
            if zombies:
                found.append(f"{server.name} has zombies: {zombies}")
            if len(server.folders()) != server.count:
                found.append(f"{server.name} has the folders {server.folders()}")
        return found

    def _end(self) -> None:
        for server in self._servers:
            wrong = server.drain()
            if wrong:
                self.wrong.append(wrong)
            if server.folders():
                self.wrong.append(f"{server.name} has left {server.folders()}")
            for line in server.log.read_text(errors="replace").splitlines():
                if any(one in line for one in TELLTALES):
                    self.wrong.append(f"{server.name} has logged: {line[:300]}")

    def _kill(self) -> None:
        for server in self._servers:
            if not server.has_ended:
                server.kill()

    def _say(self, sentence: str) -> None:
        print(sentence, flush=True)


def run(plan: Plan) -> int:
    """The exit status: 0 where nothing was wrong, hung or leaked."""
    with tempfile.TemporaryDirectory(prefix="chaos-") as folder:
        return Run(plan, Path(folder)).do()


def _largest(server: Server) -> Holdings:
    """The most of each that one of its processes holds."""
    found = [holdings(one) for one in server.serving]
    return Holdings(*(max(getattr(one, name) for one in found) for name in Holdings.__slots__))
