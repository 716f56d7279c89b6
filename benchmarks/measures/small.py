"""Small unary requests, (8, 16) float32: lossd, Triton's Python backend, and a bare echo of the same bytes."""

from __future__ import annotations

import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import h2load
from peers.case import write
from processes import Client, PeerFailed, Server, lossd, serving, triton
from servers import echo
from turns import middle, rounds

CONCURRENCIES = (1, 32, 128)
CALLS = 5_000
OWN_CALLS = 2_000
ONE_THREAD = "cross_entropy_one_thread"


def loaded(
    server: Server, client: Client, folder: str, concurrency: int, calls: int, **model: str
) -> Callable[[], dict[str, float]]:
    """A round of h2load, during which the peer's own client samples answers and after which the server is asked."""
    file = Path(folder) / f"message-{id(client)}"
    message = client.do("message", case=folder, file=str(file), **model)
    body = file.read_bytes()

    def one() -> dict[str, float]:
        before = client.do("count", **model)
        client.do("sample", case=folder, **model)
        try:
            figures = h2load.run(server.address, message["path"], body, message["metadata"], concurrency, calls)
        finally:
            sampled = client.do("sampled")
        if sampled["failed"] or sampled["wrong"]:
            raise PeerFailed(
                f"of {sampled['calls']} sampled calls {sampled['failed']} failed, {sampled['wrong']} wrong"
            )
        counted = client.do("count", **model) - before
        if counted != calls + sampled["calls"]:
            raise PeerFailed(f"{calls + sampled['calls']} calls were sent, {counted} got a result")
        return figures | {"sampled": sampled["calls"]}

    return one


def summed_up(found: dict[str, list[dict[str, float]]], failed: dict[str, str], concurrency: int) -> dict[str, Any]:
    peers = {
        name: middle(rows) | {"best_per_s": max(row["per_s"] for row in rows)} for name, rows in found.items() if rows
    }
    return {"concurrency": concurrency, "peers": peers, "failed": failed}


def measure(folder: Path, count: int, quick: bool) -> dict[str, Any]:
    """By h2load and by each side's own Python client, at each concurrency."""
    case = str(write(folder / "small", 8, 16))
    calls, own_calls = (CALLS // 5, OWN_CALLS // 5) if quick else (CALLS, OWN_CALLS)
    cheap, own = [], []
    with lossd() as (ours, our_client), triton() as (theirs, their_client):
        file = Path(case) / "echo"
        message = our_client.do("message", case=case, file=str(file))
        with serving(echo(message["answer_bytes"])) as empty:
            for concurrency in CONCURRENCIES:
                print(f"  h2load, concurrency {concurrency}", file=sys.stderr, flush=True)
                peers: dict[str, Callable[[], dict[str, float]]] = {
                    "lossd": loaded(ours, our_client, case, concurrency, calls),
                    "triton": loaded(theirs, their_client, case, concurrency, calls),
                    "triton, one thread": loaded(theirs, their_client, case, concurrency, calls, model=ONE_THREAD),
                    "echo": partial(
                        h2load.run,
                        address=empty.address,
                        path="/bare.Echo/Call",
                        body=file.read_bytes(),
                        metadata=message["metadata"],
                        concurrency=concurrency,
                        calls=calls,
                    ),
                }
                cheap.append(summed_up(*rounds(peers, count), concurrency))
        for concurrency in CONCURRENCIES:
            print(f"  own clients, concurrency {concurrency}", file=sys.stderr, flush=True)
            of: dict[str, Any] = {"case": case, "concurrency": concurrency, "count": own_calls}
            clients = {
                "lossd": our_client.figures("calls", **of),
                "triton": their_client.figures("calls", **of),
                "triton, one thread": their_client.figures("calls", model=ONE_THREAD, **of),
            }
            own.append(summed_up(*rounds(clients, count), concurrency))
    return {"calls": calls, "own_calls": own_calls, "h2load": cheap, "own": own}
