"""Threads that do one thing together."""

from __future__ import annotations

import gc
import threading

import pytest

from lossd_server.backends.numba.thread_team import ThreadTeam
from tests.client.programs import run
from tests.waiting import until


def test_each_thread_and_the_caller_do_the_work_once() -> None:
    """All at the same time: each waits for the others."""
    team = ThreadTeam(3, "test-team")
    together, names = threading.Barrier(4), set[str]()

    def work() -> None:
        together.wait(30)
        names.add(threading.current_thread().name + str(threading.get_ident()))

    for _ in range(3):
        team.run(work)
    team.close()
    team.close()

    assert len(names) == 4


@pytest.mark.parametrize("in_caller", [False, True])
def test_what_one_of_them_raises_is_raised_when_all_are_done(in_caller: bool) -> None:
    """And the threads go on."""
    team, done = ThreadTeam(2, "test-team"), list[int]()
    caller = threading.get_ident()

    def work() -> None:
        done.append(1)
        if (threading.get_ident() == caller) is in_caller:
            raise ValueError("what was done")

    with pytest.raises(ValueError, match="what was done"):
        team.run(work)
    assert len(done) == 3
    team.run(lambda: done.append(1))
    assert len(done) == 6
    team.close()


def test_a_team_that_nobody_holds_ends_its_threads() -> None:
    """As of a backend that is made for a moment."""
    before = threading.active_count()
    team = ThreadTeam(2, "test-team")
    assert threading.active_count() == before + 2

    del team
    gc.collect()

    until(lambda: threading.active_count() == before, "the threads end")


def test_a_team_works_until_the_process_ends() -> None:
    """When the main thread has ended, in atexit handlers, and at the end of the interpreter without a word."""
    done = run(
        """
        import atexit, threading
        from lossd_server.backends.numba.thread_team import ThreadTeam
        team, done = ThreadTeam(2, "team"), []
        def work(when):
            team.run(lambda: done.append(1))
            print(when, len(done))
        def late():
            threading.main_thread().join()
            work("late")
        atexit.register(work, "at exit")
        threading.Thread(target=late).start()
        """
    )

    assert (done.stdout, done.stderr, done.returncode) == ("late 3\nat exit 6\n", "", 0)
