"""The embedded server inside another program, however that ends: calls work or raise Unavailable, and nobody hangs."""

from __future__ import annotations

import pytest

from tests.client.programs import run

ENDED = "the embedded server has ended, with its client or with the process that it was in"
# Every kind of call: in one message, of several threads' work, in blocks, in shared memory, and over one stream.
CALLS = """
    import asyncio, atexit, os, signal, sys, threading
    import numpy as np
    import lossd

    LARGE = np.zeros((1024, 1024), np.float32)

    def every_call(client):
        client.entropy([0.5, 0.5])
        for way in ("unary", "stream", "shared_memory"):
            client.entropy(LARGE, kind="logits", transport=way)
        list(client.map("entropy", [([0.5, 0.5],)] * 4))

    async def every_call_awaited(client):
        await client.entropy([0.5, 0.5])
        for way in ("unary", "stream", "shared_memory"):
            await client.entropy(LARGE, kind="logits", transport=way)
        [one async for one in client.map("entropy", [([0.5, 0.5],)] * 4)]

    def said(call, *arguments):
        try:
            call(*arguments)
        except lossd.Unavailable as error:
            print(error, flush=True)
        else:
            print("answered", flush=True)
"""
ENDINGS = {
    "an atexit handler registered after the client": (
        """
        client = lossd.Client("embedded")
        atexit.register(said, every_call, client)
        """,
        ["answered"],
    ),
    "an atexit handler registered before the client": (
        """
        atexit.register(lambda: said(every_call, client))
        client = lossd.Client("embedded")
        every_call(client)
        """,
        [ENDED],
    ),
    "an awaitable client in atexit handlers": (
        """
        atexit.register(lambda: said(asyncio.run, every_call_awaited(client)))
        client = lossd.aio.Client("embedded")
        asyncio.run(every_call_awaited(client))
        atexit.register(lambda: said(asyncio.run, every_call_awaited(client)))
        """,
        ["answered", ENDED],
    ),
    "a thread that goes on after the main one": (
        """
        client = lossd.Client("embedded")
        def late():
            threading.main_thread().join()
            said(every_call, client)
        threading.Thread(target=late).start()
        """,
        ["answered"],
    ),
    "a loop in a thread that goes on after the main one": (
        """
        client = lossd.aio.Client("embedded")
        async def late():
            threading.main_thread().join()
            await every_call_awaited(client)
        threading.Thread(target=lambda: said(asyncio.run, late())).start()
        """,
        ["answered"],
    ),
    "a daemon thread that calls on and on": (
        """
        called, over = threading.Event(), threading.Event()
        atexit.register(over.wait)  # called after the server's end
        client = lossd.Client("embedded")
        def on_and_on():
            try:
                while True:
                    every_call(client)
                    called.set()
            except lossd.Unavailable as error:
                print(error, flush=True)
            over.set()
        threading.Thread(target=on_and_on, daemon=True).start()
        called.wait()
        """,
        [ENDED],
    ),
    "a first client in an atexit handler": (
        """
        atexit.register(lambda: said(lambda: every_call(lossd.Client("embedded"))))
        """,
        ["answered"],
    ),
    "a first client in a thread after the main one": (
        """
        def late():
            threading.main_thread().join()
            said(every_call, lossd.Client("embedded"))
        threading.Thread(target=late).start()
        """,
        ["answered"],
    ),
    "sys.exit in a thread": (
        """
        client = lossd.Client("embedded")
        def leave():
            every_call(client)
            sys.exit(3)
        thread = threading.Thread(target=leave)
        thread.start()
        thread.join()
        said(every_call, client)
        """,
        ["answered"],
    ),
    "Ctrl-C between calls": (
        """
        client = lossd.Client("embedded")
        try:
            signal.raise_signal(signal.SIGINT)
        except KeyboardInterrupt:
            said(every_call, client)
        """,
        ["answered"],
    ),
    "Ctrl-C in a call": (
        """
        client = lossd.Client("embedded")
        every_call(client)
        try:
            threading.Thread(target=os.kill, args=(os.getpid(), signal.SIGINT)).start()
            while True:
                every_call(client)
        except KeyboardInterrupt:
            said(every_call, client)
        """,
        ["answered"],
    ),
    "os._exit": (
        """
        said(every_call, lossd.Client("embedded"))
        os._exit(0)
        """,
        ["answered"],
    ),
    "two servers, of which one is closed": (
        """
        first, second = lossd.Client("embedded"), lossd.Client("embedded")
        every_call(first)
        first.close()
        said(every_call, second)
        """,
        ["answered"],
    ),
}


@pytest.mark.parametrize("ending", ENDINGS)
def test_a_program_ends_without_noise(ending: str) -> None:
    """Each call is answered or raises Unavailable; status 0, and nothing on stderr."""
    source, said = ENDINGS[ending]
    indented = "\n".join(line.removeprefix("    ") for line in source.splitlines())

    done = run(CALLS + indented)

    assert (done.stdout.splitlines(), done.stderr, done.returncode) == (said, "", 0)


def test_a_forked_child_hears_that_its_parents_server_has_ended() -> None:
    """At once, and in no words about a socket that it never saw."""
    done = run(
        CALLS
        + """
    client = lossd.Client("embedded")
    every_call(client)
    read, write = os.pipe()
    if os.fork() == 0:
        os.read(read, 1)
        said(every_call, client)
        os._exit(0)
    client.close()
    os.write(write, b"x")
    os.wait()
    """
    )

    # Core remarks on stderr that the server's thread was inside gRPC at the fork.
    assert (done.stdout, done.returncode) == (f"{ENDED}\n", 0), done.stderr


def test_a_pool_of_forked_processes_uses_its_parents_server() -> None:
    """As data loaders do."""
    done = run(
        """
        import multiprocessing, lossd
        client = lossd.Client("embedded")
        def ask(i):
            return float(client.entropy([0.5, 0.5], base=2))
        ask(0)
        with multiprocessing.get_context("fork").Pool(2) as pool:
            print(pool.map(ask, range(4)))
        """
    )

    assert (done.stdout, done.returncode) == ("[1.0, 1.0, 1.0, 1.0]\n", 0), done.stderr


def test_fifty_servers_one_after_another_cost_what_one_does() -> None:
    """Threads, descriptors and folders, as of a test suite that makes one for each test."""
    done = run(
        CALLS
        + """
    import gc, pathlib, tempfile
    from tests.waiting import until

    os.environ.pop("XDG_RUNTIME_DIR", None)
    tempfile.tempdir = tempfile.mkdtemp()

    def cost():
        gc.collect()
        folders = list(pathlib.Path(tempfile.tempdir).iterdir())
        return threading.active_count(), len(os.listdir("/proc/self/fd")), len(folders)

    def servers(count):
        for _ in range(count):
            with lossd.Client("embedded") as client:
                every_call(client)

    servers(3)
    few = cost()
    servers(47)
    until(lambda: all(now <= then for now, then in zip(cost(), few, strict=True)), f"no more than {few}")
    print(few[2])
    os.rmdir(tempfile.tempdir)
    """
    )

    assert (done.stdout, done.stderr, done.returncode) == ("0\n", "", 0)
