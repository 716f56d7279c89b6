"""What each stage of lossd costs for one small request, timed alone in this process over many calls."""

from __future__ import annotations

from collections.abc import Callable
from statistics import median
from time import perf_counter_ns

from lossd_server import codec
from lossd_server.backends import create
from lossd_server.evaluate import evaluate
from lossd_server.job import Answer
from lossd_server.losses import check

CALLS = 2000
ROUNDS = 7


def microseconds(call: Callable[[], object]) -> float:
    """Of one call: the median of 7 rounds of 2,000."""
    rounds = []
    for _ in range(ROUNDS):
        start = perf_counter_ns()
        for _ in range(CALLS):
            call()
        rounds.append((perf_counter_ns() - start) / CALLS / 1e3)
    return median(rounds)


def stages(rpc: str, body: bytes) -> dict[str, float]:
    """Microseconds of decode, check, compute and encode for this request."""
    backend = create("cpu", 0)
    backend.warm_up(lambda line: None)
    job = check(rpc, codec.decode(rpc, body))
    answer = evaluate(backend, [job])[0]
    assert isinstance(answer, Answer)
    found = {
        "decode": microseconds(lambda: codec.decode(rpc, body)),
        # check reads the message once; decoding anew each time keeps its lazily made parts from being counted as free
        "check": microseconds(lambda: check(rpc, codec.decode(rpc, body))),
        "compute": microseconds(lambda: evaluate(backend, [job])),
        "encode": microseconds(lambda: codec.encode(answer, 1, 1, 1, 1)),
    }
    found["check"] -= found["decode"]
    backend.close()
    return found
