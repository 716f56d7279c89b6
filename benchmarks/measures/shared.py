"""Same host, shared memory: lossd from `client.empty` and copied in, Triton's, and torch in the caller's process."""

from __future__ import annotations

import sys
from pathlib import Path
from statistics import median
from typing import Any

from peers.case import read, write
from processes import client, lossd, triton
from turns import rounds

ROWS, CLASSES = 4096, 32000


def measure(folder: Path, count: int, quick: bool) -> dict[str, Any]:
    """Seconds of the first evaluation and of later ones, by each peer."""
    rows = ROWS // 8 if quick else ROWS
    case = str(write(folder / "shared", rows, CLASSES))
    nbytes = read(case).nbytes
    figures = []
    for gradient in (False, True):
        print(f"  {'loss + gradient' if gradient else 'loss'}", file=sys.stderr, flush=True)
        of: dict[str, Any] = {"case": case, "gradient": gradient, "times": 1}
        with lossd() as (_, ours), triton() as (_, theirs), client("torch_local") as local:
            peers = {
                "lossd, client.empty": ours.seconds(way="empty", **of),
                "lossd, copied in": ours.seconds(way="shared_memory", **of),
                "Triton, shared memory": theirs.seconds(way="shared_memory", **of),
                "torch eager": local.seconds(way="eager", **of),
                "torch.compile": local.seconds(way="compile", **of),
            }
            found, failed = rounds(peers, count + 1)
        figures.append(
            {
                "gradient": gradient,
                "first": {name: row[0] for name, row in found.items()},
                "seconds": {name: median(row[1:]) for name, row in found.items()},
                "failed": failed,
            }
        )
    return {"shape": [rows, CLASSES], "nbytes": nbytes, "figures": figures}
