"""Many small evaluations: `client.map` beside Triton's best burst."""

from __future__ import annotations

from itertools import product
from pathlib import Path
from statistics import median
from typing import Any

from measures.small import ONE_THREAD, loaded
from peers.case import write
from processes import lossd, triton
from turns import middle, rounds

BURST = 1_500
MAPPED = 20_000
CONCURRENCIES = (32, 128)
MODELS = ("cross_entropy", ONE_THREAD)


def measure(folder: Path, count: int, quick: bool) -> dict[str, Any]:
    """Evaluations per second of (8, 16): lossd's median, Triton's best of all its bursts."""
    case = str(write(folder / "many", 8, 16))
    mapped = MAPPED // 10 if quick else MAPPED
    with lossd() as (_, our_client), triton() as (theirs, their_client):
        our_client.do("calls", case=case, concurrency=1, count=100)  # warm
        peers = {"lossd map": our_client.figures("map", case=case, count=mapped)}
        for concurrency, model in product(CONCURRENCIES, MODELS):
            name = f"{model}, concurrency {concurrency}"
            peers[name] = loaded(theirs, their_client, case, concurrency, BURST, model=model)
        found, failed = rounds(peers, count)
    ours = found.pop("lossd map", None)
    rates = {name: [row["per_s"] for row in rows] for name, rows in found.items()}
    bursts = {name: {"best": max(row), "median": median(row)} for name, row in rates.items()}
    return {"mapped": mapped, "burst": BURST, "lossd": ours and middle(ours), "bursts": bursts, "failed": failed}
