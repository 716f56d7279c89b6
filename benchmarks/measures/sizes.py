"""What one request costs as it grows to 1 GB, by every way there is."""

from __future__ import annotations

import sys
from pathlib import Path
from statistics import median
from typing import Any

from peers.case import read, write
from processes import client, lossd, torch_service, triton
from turns import rounds

CLASSES = 1000
ROWS = (1, 16, 256, 4096, 32768, 262144)
UNARY_BYTES = 1 << 20
PEER_BYTES = 200 << 20  # Triton and plain grpcio take seconds above that
ROUND_BYTES = 16 << 20


def measure(folder: Path, count: int, quick: bool) -> dict[str, Any]:
    """Seconds of one evaluation of (N, 1000), loss only."""
    figures = []
    with lossd() as (_, ours), triton() as (_, theirs), torch_service() as plain, client("torch_local") as local:
        for rows in ROWS[:4] if quick else ROWS:
            print(f"  ({rows}, {CLASSES})", file=sys.stderr, flush=True)
            case = str(write(folder / f"sizes-{rows}", rows, CLASSES))
            nbytes = read(case).nbytes
            of: dict[str, Any] = {"case": case, "gradient": False, "times": max(1, min(50, ROUND_BYTES // nbytes))}
            tcp = "unary" if nbytes <= UNARY_BYTES else "stream"
            peers = {
                "lossd, TCP": ours.seconds(way=tcp, **of),
                "lossd, shared memory, copied in": ours.seconds(way="shared_memory", **of),
                "lossd, client.empty": ours.seconds(way="empty", **of),
                "torch eager, in process": local.seconds(way="eager", **of),
            }
            if nbytes <= PEER_BYTES:
                peers["Triton, TCP"] = theirs.seconds(way="unary", **of)
                peers["grpcio + torch, TCP"] = plain.seconds(way="unary", **of)
            found, failed = rounds(peers, count + 1)
            seconds = {name: median(row[1:]) for name, row in found.items()}  # the first one warms up
            figures.append({"rows": rows, "nbytes": nbytes, "seconds": seconds, "failed": failed})
            for peer in (ours, theirs, plain, local):
                peer.do("drop")
    return {"classes": CLASSES, "figures": figures}
