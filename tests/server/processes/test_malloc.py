"""A server's memory: freed messages cost no page faults when the next ones come."""

from __future__ import annotations

import platform
import subprocess
import sys

import pytest

from lossd_server.processes.malloc import BUSY_S, IDLE_S, SpareMemory
from tests.server.server_process import environment

PROGRAM = """
import resource
from lossd_server.processes import malloc

def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(100):
        pair = bytes(4 << 20) + b"1", bytes(1 << 20) + b"1"
        del pair
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

print(malloc.keep(), faults())
"""


SCATTERED = """
from lossd_server.processes import malloc

def resident():
    return int(open("/proc/self/status").read().split("RssAnon:")[1].split()[0]) >> 10

malloc.keep()
held = [bytes(1 << 20) + b"1" for _ in range(300)]
whole = resident()
del held[::2], held[:140]
scattered = resident()
malloc.give_back_beside()
for thread in __import__("threading").enumerate():
    if thread.name == "lossd-give-back":
        thread.join()
print(whole, scattered, resident(), len(held))
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="another C library")
def test_messages_that_come_and_go() -> None:
    """A hundred messages of 4 MiB, one after the other, touch fewer new pages than four of them hold."""
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM], env=environment(), capture_output=True, text=True, check=True, timeout=60
    )
    told, faults = done.stdout.split()

    assert told == "True"
    assert int(faults) < 4 * 1024


def test_memory_is_given_back_once_after_work() -> None:
    """When nothing has happened for a while; and again after the next work."""
    released: list[float] = []
    now = 0.0
    memory = SpareMemory([lambda: released.append(now)], [])
    for now, busy, state in [
        (1.0, False, 1),  # something was done
        (1.0 + IDLE_S / 2, False, 2),  # and more
        (1.0 + IDLE_S, False, 2),
        (2.0 + 2 * IDLE_S, False, 2),  # idle
        (3.0 + 2 * IDLE_S, False, 2),
        (4.0 + 2 * IDLE_S, True, 2),  # one is under way
        (5.0 + 4 * IDLE_S, True, 2),
        (6.0 + 5 * IDLE_S, False, 2),  # idle again
    ]:
        memory.check(now, busy, state)

    assert released == [2.0 + 2 * IDLE_S, 6.0 + 5 * IDLE_S]


def test_memory_is_given_back_under_load() -> None:
    """Every so often, where work goes on and on; not in the first moments of it."""
    given_back: list[float] = []
    memory = SpareMemory([], [lambda: given_back.append(now)])
    for step in range(int(3.5 * BUSY_S)):
        now = 100.0 + step
        memory.check(now, False, step)

    assert given_back == [100.0 + BUSY_S, 100.0 + 2 * BUSY_S, 100.0 + 3 * BUSY_S]


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="another C library")
def test_what_lies_between_held_ones_is_given_back() -> None:
    """Of memory whose end is still held, which stays resident by itself."""
    done = subprocess.run(
        [sys.executable, "-c", SCATTERED], env=environment(), capture_output=True, text=True, check=True, timeout=60
    )
    whole, scattered, after, held = map(int, done.stdout.split())

    assert scattered > whole - 50
    assert after < whole - (300 - held) + 50
