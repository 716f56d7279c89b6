"""What each stage of lossd costs for one small request, timed alone in this process over many calls."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from statistics import median
from time import perf_counter_ns

from lossd_server.backends import create
from lossd_server.engine.evaluate import evaluate
from lossd_server.fast_path.burst import Burst, address_of_bytes
from lossd_server.fast_path.plan import plan_of
from lossd_server.fast_path.recall import Recall
from lossd_server.jobs.job import Answer
from lossd_server.losses import check
from lossd_server.tensors.request_fields import fields_of
from lossd_server.warmup import warm_up
from lossd_server.wire import codec

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


def stages(rpc: str, body: bytes) -> tuple[dict[str, float], dict[str, float]]:
    """Microseconds of each stage of a request like one before, and of one that is met the first time."""
    backend = create("cpu", 0)
    warm_up(backend, lambda line: None)
    recall = Recall(check, partial(plan_of, backend))
    job = recall.check(rpc, codec.decode(rpc, body))
    known = recall.find(rpc, body)
    assert known is not None
    plan = known.plan
    assert plan is not None
    burst = Burst(backend)
    answer = evaluate(backend, [job])[0]
    assert isinstance(answer, Answer)
    again = {
        "find": microseconds(lambda: recall.find(rpc, body)),
        "answer": microseconds(lambda: burst.answer([(plan, address_of_bytes(body))])),
    }
    first = {
        "decode": microseconds(lambda: codec.decode(rpc, body)),
        # check reads the message once; decoding anew each time keeps its lazily made parts from being counted as free
        "check": microseconds(lambda: check(rpc, fields_of(codec.decode(rpc, body)))),
        "compute": microseconds(lambda: evaluate(backend, [job])),
        "encode": microseconds(lambda: codec.encode(answer, 1, 1, 1, 1)),
    }
    first["check"] -= first["decode"]
    backend.close()
    return again, first
