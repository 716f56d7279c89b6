"""Copies of a large request and of its answer in the server's user space, on both fronts.

    python benchmarks/copies.py

Builds count_copies.c with gcc and preloads it into the server, where it counts the bytes that memcpy and memmove move
in pieces of 64 KiB and more. A client of grpcio calls cross-entropy of 16 MB of logits, as lossd's own call and as
ModelInfer of the Open Inference Protocol. Printed: the bytes copied for a call over the bytes of its message. What the
kernel of the operating system copies is not counted.
"""

from __future__ import annotations

import os
import signal
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Any

import grpc
import numpy as np

from inference import WAYS, bodies
from machine import describe
from processes import serving
from servers import LOSSD

SOURCE = Path(__file__).with_name("count_copies.c")
CALLS = 5
OPTIONS = [("grpc.max_send_message_length", -1), ("grpc.max_receive_message_length", -1)]


def copied(pid: int, told: Path) -> int:
    """Bytes so far."""
    told.unlink(missing_ok=True)
    os.kill(pid, signal.SIGUSR1)
    while not told.exists() or not told.read_text().endswith("\n"):
        time.sleep(0.01)
    return int(told.read_text())


def main() -> None:
    print(describe("grpcio", "uvloop", "numpy"))
    rng = np.random.default_rng(0)
    logits, labels = rng.normal(size=(1000, 4000)).astype(np.float32), rng.integers(0, 4000, 1000)
    with tempfile.TemporaryDirectory() as folder:
        library, told = Path(folder) / "count_copies.so", Path(folder) / "told"
        build = ["gcc", "-O2", "-fno-builtin", "-shared", "-fPIC", "-o", str(library), str(SOURCE)]
        subprocess.run(build, check=True)
        preload = ["env", f"LD_PRELOAD={library}", f"COPIES_FILE={told}"]
        for front in ("grpcio", "http2"):
            with (
                serving([*preload, *LOSSD, "--front", front]) as server,
                grpc.insecure_channel(server.address, options=OPTIONS) as channel,
            ):
                for grad in (False, True):
                    sent = bodies(logits, labels, grad)
                    for name, (path, _) in WAYS.items():
                        call: Any = channel.unary_unary(path)
                        call(sent[name])
                        before = copied(server.pid, told)
                        for _ in range(CALLS):
                            call(sent[name])
                        share = (copied(server.pid, told) - before) / CALLS / len(sent[name])
                        what = "loss and gradient" if grad else "loss"
                        print(f"{front:6} {name:12} {what:18} {share:.2f} copies")


if __name__ == "__main__":
    main()
