"""Large tensors over TCP: lossd's stream, Triton, plain grpcio with torch behind it, and a bare gRPC byte stream."""

from __future__ import annotations

import sys
from itertools import product
from pathlib import Path
from statistics import median
from typing import Any

from peers.case import read, write
from processes import byte_stream, lossd, torch_service, triton
from turns import rounds

SHAPES = ((256, 1000), (1024, 8192), (1024, 32000))
ROUND_BYTES = 64 << 20  # a round repeats small tensors, at most 20 times
MESSAGES = (1 << 20, 4 << 20)


def measure(folder: Path, count: int, quick: bool) -> dict[str, Any]:
    """Seconds of an evaluation by each peer: medians of rounds of medians."""
    figures = []
    shapes = SHAPES[:2] if quick else SHAPES
    with lossd() as (_, ours), triton() as (_, theirs), torch_service() as plain, byte_stream() as bare:
        for rows, classes in shapes:
            case = str(write(folder / f"large-{rows}-{classes}", rows, classes))
            nbytes = read(case).nbytes
            times = max(1, min(20, ROUND_BYTES // nbytes))
            for gradient in (False, True):
                print(
                    f"  ({rows}, {classes}), {'loss + gradient' if gradient else 'loss'}", file=sys.stderr, flush=True
                )
                of: dict[str, Any] = {"case": case, "gradient": gradient, "times": times}
                peers = {
                    "lossd": ours.seconds(way="stream", **of),
                    "triton": theirs.seconds(way="unary", **of),
                    "grpcio + torch": plain.seconds(way="unary", **of),
                }
                for way, size in () if gradient else product(("sync", "aio"), MESSAGES):
                    sent: dict[str, Any] = {"nbytes": nbytes, "way": way, "message_bytes": size, "times": times}
                    peers[f"bytes {way} {size >> 20} MiB"] = bare.seconds("send", **sent)
                    peers[f"array {way} {size >> 20} MiB"] = bare.seconds("send", array=True, **sent)
                found, failed = rounds(peers, count + 1)
                seconds = {name: median(row[1:]) for name, row in found.items()}  # the first one warms up
                figures.append(
                    {
                        "shape": [rows, classes],
                        "gradient": gradient,
                        "nbytes": nbytes,
                        "seconds": seconds,
                        "failed": failed,
                    }
                )
            for client in (ours, theirs, plain):
                client.do("drop")
    return {"figures": figures}
