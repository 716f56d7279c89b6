"""What losses in JSON cost those beside them: small gRPC calls alone, and beside one client of the HTTP port.

    PYTHONPATH=client:server python benchmarks/http_beside.py

Rounds of a second, in turns. The server is one process, whose interpreter reads JSON for both; the client by HTTP is
another process, and posts without a pause.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

import lossd
from machine import describe

ROUNDS, ROUND_S = 5, 1.0
BODIES = {
    "alone": 0,
    "beside 3 numbers a body": 3,
    "beside 12,000 numbers a body": 12_000,
}
POSTS = """
import sys, urllib.request
url, body = sys.argv[1], open(sys.argv[2], "rb").read()
request = urllib.request.Request(url, body, {"content-type": "application/json"})
while True:
    urllib.request.urlopen(request).read()
    print(flush=True)
"""


@contextmanager
def server() -> Iterator[tuple[str, str]]:
    """gRPC's address, and HTTP's."""
    command = [sys.executable, "-m", "lossd_server", "--device", "cpu", "--listen", "127.0.0.1:0", "--http", "0"]
    with subprocess.Popen([*command, "--log-level", "error"], stdout=subprocess.PIPE, text=True) as child:
        assert child.stdout is not None
        address = child.stdout.readline().split()[-1]
        yield address, next(line for line in child.stdout if line.startswith("http ")).split()[1]
        child.terminate()


@contextmanager
def posting(url: str, body: Path) -> Iterator[None]:
    """A process that posts, once the first is answered."""
    command = [sys.executable, "-c", POSTS, f"{url}/v1/losses/softmax", str(body)]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as child:
        assert child.stdout is not None
        if not child.stdout.readline():
            raise SystemExit("the first post was refused")
        yield
        child.kill()


def measure(client: lossd.Client) -> list[float]:
    """Seconds of each call of a round."""
    logits, labels = np.zeros((4, 8), np.float32), np.zeros(4, np.int64)
    found: list[float] = []
    end = time.perf_counter() + ROUND_S
    while time.perf_counter() < end:
        start = time.perf_counter()
        client.cross_entropy(logits, labels)
        found.append(time.perf_counter() - start)
    return found


def main() -> None:
    took: dict[str, list[float]] = {name: [] for name in BODIES}
    with TemporaryDirectory() as folder, server() as (address, url), lossd.Client(address) as client:
        measure(client)
        for _ in range(ROUNDS):
            for name, count in BODIES.items():
                if not count:
                    took[name] += measure(client)
                    continue
                body = Path(folder) / str(count)
                body.write_text(json.dumps({"input": [0.12345678901234567] * count}), encoding="utf-8")
                with posting(url, body):
                    took[name] += measure(client)
    print(describe())
    for name, found in took.items():
        half, most = np.quantile(found, [0.5, 0.99])
        print(f"{name:30} {1e3 * half:.2f} ms median, {1e3 * most:.2f} ms at 99 %, {len(found)} calls")


if __name__ == "__main__":
    main()
