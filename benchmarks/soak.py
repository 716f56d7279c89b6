"""Faults and load on one server, for a while: everything at once, every answer checked, and nothing left in the end.

`make soak SOAK_SECONDS=1800`, or `python benchmarks/soak.py [--seconds 60] [--workers 2] [--seed 1] [--clients 2]`.
Client processes (see soak_client.py) ask for everything by every way, and for what is refused (soak_refusals.py); some
are killed in the middle of it; with --workers so is a worker now and then. What the server holds is sampled all the
time and must not grow (soak_trend.py). Then the clients end, and it must hold nothing any more: no request, no memory,
no descriptor, no thread. In the end it gets SIGTERM under load. The exit status is 1 where anything was wrong.
"""

from __future__ import annotations

import argparse
import collections
import json
import os
import random
import secrets
import signal
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

import lossd
from lossd.command_line.token_line import token_line
from soak_trend import Trend

HERE = Path(__file__).resolve().parent
LISTENING = "listening on "
SETTLE_S = 20.0
DRAIN_S = 30
# What a process may have more of when it is idle again: an allocator's pools, the pages of kernels it has loaded.
RSS_MIB = 400


# Who may call, and one who may have a single call and a single stream.
TOKEN, LIMITED = secrets.token_urlsafe(), secrets.token_urlsafe()
LIMITS = "max_inflight_requests=1 max_streams=1"


def environment() -> dict[str, str]:
    root = HERE.parent
    return {
        **os.environ,
        "LOSSD_TOKEN": TOKEN,
        "SOAK_LIMITED_TOKEN": LIMITED,
        "PYTHONPATH": ":".join(map(str, (root / "client", root / "server", root, HERE))),
    }


def client(address: str, seed: int, *more: str) -> subprocess.Popen[str]:
    command = [sys.executable, str(HERE / "soak_client.py"), address, str(seed), *more]
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment())


def holdings(pid: int) -> dict[str, int]:
    """What a process has: resident MiB, those of its own alone, descriptors, mappings of shared memory, threads."""
    status = dict(line.split(":", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines())
    maps = Path(f"/proc/{pid}/maps").read_text()
    return {
        "rss_mib": int(status["VmRSS"].split()[0]) >> 10,
        "anon_mib": int(status["RssAnon"].split()[0]) >> 10,
        "descriptors": len(os.listdir(f"/proc/{pid}/fd")),
        "memfds": sum("memfd:" in line for line in maps.splitlines()),
        "threads": int(status["Threads"]),
    }


def servers(pid: int, workers: int) -> list[int]:
    """The processes that serve."""
    if workers == 1:
        return [pid]
    children = map(int, Path(f"/proc/{pid}/task/{pid}/children").read_text().split())
    return [one for one in children if b"spawn_main" in Path(f"/proc/{one}/cmdline").read_bytes()]


class Soak:
    def __init__(self, arguments: argparse.Namespace) -> None:
        self.workers: int = arguments.workers
        self.clients: int = arguments.clients
        self.rng = random.Random(arguments.seed)
        self.seconds: float = arguments.seconds
        self.faults: list[str] = []
        self.counts: collections.Counter[str] = collections.Counter()
        self.log: list[str] = []
        self.flags: list[str] = arguments.flag
        self.killed_clients = self.killed_workers = 0

    def run(self) -> int:
        command = [sys.executable, "-m", "lossd_server", "--device", "cpu", "--listen", "127.0.0.1:0"]
        command += ["--workers", str(self.workers), "--drain-s", str(DRAIN_S), "--tokens", self.tokens(), *self.flags]
        server = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment())
        assert server.stdout is not None
        assert server.stderr is not None
        errors = server.stderr
        threading.Thread(target=lambda: self.log.extend(errors), daemon=True).start()
        address = next(line for line in server.stdout if line.startswith(LISTENING)).removeprefix(LISTENING).strip()
        try:
            self.warm(address)
            before = {pid: holdings(pid) for pid in servers(server.pid, self.workers)}
            trend = Trend(lambda: self.held(server.pid, address), self.seconds)
            trend.begin()
            self.load(server.pid, address)
            trend.end()
            self.lines, growing = trend.report()
            self.faults += growing
            self.settle(server.pid, address, before)
            self.end(server, address)
        finally:
            server.kill()
            server.wait()
        self.read_log()
        return self.report()

    def tokens(self) -> str:
        self.folder = tempfile.TemporaryDirectory(prefix="soak-")
        path = Path(self.folder.name) / "tokens"
        path.write_text(f"{token_line('soak', TOKEN)}\n{token_line('limited', LIMITED)} {LIMITS}\n")
        return str(path)

    def held(self, pid: int, address: str) -> dict[int, dict[str, float]]:
        """By the process: what it has, and what its requests hold, which is of all processes together."""
        found: dict[int, dict[str, float]] = {}
        try:
            with lossd.Client(address, token=TOKEN) as asking:
                inflight = asking.info().statistics.inflight_bytes / (1 << 20)
            for one in servers(pid, self.workers):
                found[one] = {**holdings(one), "inflight_mib": inflight}
        except (lossd.Error, FileNotFoundError, ProcessLookupError):
            pass  # a worker that was just killed
        return found

    def warm(self, address: str) -> None:
        """A short round, for what a process has only after its first calls is no leak."""
        one = client(address, 7)
        self.finish([one], tell=False)

    def load(self, pid: int, address: str) -> None:
        running = [client(address, self.rng.getrandbits(30)) for _ in range(self.clients)]
        for one in running:
            assert one.stdout is not None
            one.stdout.readline()
        end = time.monotonic() + self.seconds
        while time.monotonic() < end:
            victim = client(address, self.rng.getrandbits(30), "victim")
            time.sleep(min(self.rng.uniform(1.5, 5.0), max(0.1, end - time.monotonic())))
            victim.kill()
            victim.wait()
            self.killed_clients += 1
            found = servers(pid, self.workers)
            if self.workers > 1 and len(found) == self.workers and self.rng.random() < 0.5:
                os.kill(self.rng.choice(found), signal.SIGKILL)
                self.killed_workers += 1
        self.finish(running)

    def finish(self, running: list[subprocess.Popen[str]], tell: bool = True) -> None:
        """Lets clients end, and takes what they say."""
        for one in running:
            assert one.stdin is not None
            one.stdin.close()
            one.stdin = None
        for one in running:
            try:
                said = one.communicate(timeout=150)[0]
                found: dict[str, Any] = json.loads(said.strip().splitlines()[-1])
            except (subprocess.TimeoutExpired, ValueError, IndexError):
                one.kill()
                one.wait()
                self.faults.append("a client hung, or said nothing in the end")
                continue
            self.faults += found["faults"] if tell else []
            self.counts.update(found["counts"] if tell else {})

    def settle(self, pid: int, address: str, before: dict[int, dict[str, int]]) -> None:
        """With its clients gone a server holds nothing."""
        end = time.monotonic() + SETTLE_S
        while True:
            left = self.left(pid, address, before)
            if not left or time.monotonic() > end:
                break
            time.sleep(0.5)
        self.faults += left

    def left(self, pid: int, address: str, before: dict[int, dict[str, int]]) -> list[str]:
        with lossd.Client(address, token=TOKEN) as asking:
            statistics = asking.info().statistics
        found = []
        if statistics.inflight_bytes or statistics.inflight_requests:
            found.append(f"{statistics.inflight_bytes} bytes of {statistics.inflight_requests} requests are in flight")
        for one in servers(pid, self.workers):
            now, then = holdings(one), before.get(one)
            self.now = now
            if then is None:
                continue  # a successor: it was never idle before
            for name, more in (("rss_mib", RSS_MIB), ("descriptors", 6), ("memfds", 0), ("threads", 12)):
                if now[name] > then[name] + more:
                    found.append(f"{name} of {one}: {then[name]} before, {now[name]} now")
            self.before = then
        return found

    def end(self, server: subprocess.Popen[str], address: str) -> None:
        """SIGTERM under load: what was accepted is answered, and the server ends by itself, in time."""
        running = [client(address, self.rng.getrandbits(30)) for _ in range(self.clients)]
        for one in running:
            assert one.stdout is not None
            one.stdout.readline()
        time.sleep(1.5)
        start = time.monotonic()
        server.send_signal(signal.SIGTERM)
        try:
            status = server.wait(DRAIN_S + 15)
        except subprocess.TimeoutExpired:
            self.faults.append(f"the server runs on {DRAIN_S + 15} s after SIGTERM")
        else:
            self.drained_s = time.monotonic() - start
            if status:
                self.faults.append(f"the server's exit status is {status}")
            if self.drained_s > DRAIN_S:
                self.faults.append(f"the server took {self.drained_s:.1f} s to end")
        for one in running:
            assert one.stdin is not None
            one.stdin.close()
            one.stdin = None
        for one in running:
            try:
                found = json.loads(one.communicate(timeout=150)[0].strip().splitlines()[-1])
            except (subprocess.TimeoutExpired, ValueError, IndexError):
                one.kill()
                one.wait()
                self.faults.append("a client hung after the server's end")
                continue
            self.faults += found["faults"]

    def read_log(self) -> None:
        wrong = [line for line in self.log if "ERROR" in line.upper() or "Traceback" in line]
        wrong = [line for line in wrong if not (self.killed_workers and "worker ended" in line)]
        self.faults += [f"logged: {line.strip()}" for line in wrong]
        if wrong:
            sys.stderr.writelines(self.log[-60:])

    def report(self) -> int:
        for name, count in sorted(self.counts.items()):
            print(f"{name:32} {count:8}")
        print(f"{'clients killed':32} {self.killed_clients:8}\n{'workers killed':32} {self.killed_workers:8}")
        for name in ("before", "now", "drained_s"):
            print(f"{name:32} {getattr(self, name, '')}")
        print(*self.lines, sep="\n")
        for fault in self.faults[:20]:
            print(f"WRONG: {fault}")
        print("nothing was wrong" if not self.faults else f"{len(self.faults)} things were wrong")
        return int(bool(self.faults))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=60.0, help="of load, before the ends")
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--clients", type=int, default=2, help="client processes")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("flag", nargs="*", help="more for the server, after --")
    return Soak(parser.parse_args()).run()


if __name__ == "__main__":
    sys.exit(main())
