"""h2load: a client in C that hardly costs anything. It knows HTTP status only: others look at the answers."""

from __future__ import annotations

import re
import shutil
import subprocess
import tempfile
from collections.abc import Mapping
from pathlib import Path

import numpy as np

LIMIT_S = 60.0


def is_installed() -> bool:
    return shutil.which("h2load") is not None


def run(
    address: str, path: str, body: bytes, metadata: Mapping[str, str], concurrency: int, calls: int
) -> dict[str, float]:
    """`calls` unary calls of `body` on one connection: calls per second, and percentiles of their seconds."""
    with tempfile.TemporaryDirectory() as folder:
        frame, log = Path(folder) / "frame", Path(folder) / "log"
        frame.write_bytes(b"\0" + len(body).to_bytes(4, "big") + body)  # not compressed, length, message
        command = ["h2load", "-n", str(calls), "-c", "1", "-m", str(concurrency), "-d", str(frame)]
        headers = {"content-type": "application/grpc", "te": "trailers", **metadata}
        for name, value in headers.items():
            command += ["-H", f"{name}: {value}"]
        command += [f"--log-file={log}", f"http://{address}{path}"]
        done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=LIMIT_S)
        succeeded = re.search(r"(\d+) succeeded", done.stdout)
        rate = re.search(r"finished in .*?, ([\d.]+) req/s", done.stdout)
        if rate is None or succeeded is None or int(succeeded[1]) != calls:
            raise RuntimeError(f"h2load did not finish {calls} calls:\n{done.stdout}{done.stderr}")
        rows = log.read_text().split("\n")[:-1]
    p50, p99 = np.percentile([int(row.split("\t")[2]) for row in rows], (50, 99))
    return {"per_s": float(rate[1]), "p50_s": float(p50) / 1e6, "p99_s": float(p99) / 1e6}
