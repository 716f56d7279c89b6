"""The warm-up of servers and images: nothing is left to be compiled by a call."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable

import pytest

from lossd_server.backends.numba import NumbaBackend
from lossd_server.jobs import kernel_cache
from lossd_server.warmup import warm_up
from tests.server.edge import EdgeBackend
from tests.server.server_process import environment

# Every compiled function that Python can call, how often it has been compiled, before and after calls of every kind.
PROGRAM = """
import gc
import json

from numba.core.dispatcher import Dispatcher

from lossd_server.backends.numba import NumbaBackend
from lossd_server.embedded import EmbeddedServer
from lossd_server.warmup import warm_up
import lossd
import lossd_server.serve
from tests.conformance.cases import every_option
from tests.conformance.losses import LOSSES


def compiled():
    return {
        f"{one.py_func.__module__}.{one.py_func.__name__}": len(one.signatures)
        for one in gc.get_objects()
        if isinstance(one, Dispatcher)
        and one.py_func.__module__.startswith("lossd")
        and not one.targetoptions.get("no_cpython_wrapper")
    }


backend = NumbaBackend(1)
warm_up(backend, lambda step: None)
before = compiled()
with EmbeddedServer(backend=backend) as server, lossd.Client(server.address) as client:
    asked = [case.asked for loss in LOSSES for case in every_option(loss) if not LOSSES[loss].activation]
    for function in (client.softmax, client.log_softmax, client.sigmoid, client.log_sigmoid):
        function([[1.0, 2.0]])
    for one in asked + asked[::7]:  # a second time they are recalled, and planned
        getattr(client, one.method)(*one.tensors, **one.options)
    for method in ("cross_entropy", "bce"):
        for one in [one for one in asked if one.method == method and one.tensors[0].ndim > 1][:3]:
            list(client.map(method, [one.tensors] * 5, **one.options))
            getattr(client, one.method)(*one.tensors, transport="stream", **one.options)
print(json.dumps([before, compiled()]))
"""


@pytest.mark.timeout(660)  # where nothing is cached it compiles every kernel, in both dtypes
def test_calls_compile_nothing() -> None:
    """After the warm-up every function that is called by Python has been compiled, and stays as it is."""
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM], env=environment(), capture_output=True, text=True, check=False, timeout=600
    )
    assert done.returncode == 0, done.stderr
    before, after = json.loads(done.stdout)

    assert after == before
    assert [name for name, count in before.items() if count == 0] == []


class Compiling(EdgeBackend):
    """A backend of three kernels, the last two of which are not in the cache."""

    warm_up_steps = 3

    def warm_up(self, report: Callable[[str], None]) -> None:
        for number in range(self.warm_up_steps):
            report(f"kernel {number}")
            for missed in kernel_cache.on_miss if number else ():
                missed(f"kernel {number}")


def test_steps_are_counted() -> None:
    """From the first compilation on each step is told, with its number and how many there are."""
    said: list[str] = []
    compiled = warm_up(Compiling(), said.append)

    assert compiled
    assert [line.partition("[")[2].partition("]")[0] for line in said] == ["8/9", "9/9"]
    assert all(line.startswith("compiling kernels, once for this machine, about 30 s [") for line in said)


def test_nothing_is_told_of_what_is_cached() -> None:
    """A warm-up that compiles nothing is silent."""
    backend, said = NumbaBackend(1), list[str]()
    warm_up(backend, lambda line: None)

    assert not warm_up(backend, said.append)
    assert said == []
