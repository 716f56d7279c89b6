"""Embedded server: one inside this process, for `lossd.Client("embedded")`, notebooks, scripts and tests.

The same server as `lossd serve`, in a thread with an event loop of its own, on a Unix socket that only this user can
reach. The backend, whose kernels take time to load, is made once a process; a second server starts at once.
"""

from __future__ import annotations

import asyncio
import atexit
import os
import threading
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from lossd_server.backends import Backend, create
from lossd_server.config.compilation_line import CompilationLine, print_error
from lossd_server.config.settings import Settings
from lossd_server.processes.private_folder import PrivateFolder, remove_dead
from lossd_server.serve import loop_factory
from lossd_server.server import Server
from lossd_server.warmup import warm_up

_backends: dict[tuple[int, str, int], Backend] = {}
_backends_lock = threading.Lock()
# Whether this process was forked from one that had this module.
_forked = threading.Event()
os.register_at_fork(after_in_child=_forked.set)


class EmbeddedServer:
    """A context manager; or `start` and `close`. `address` is what a client connects to.

    settings: limits and device; `listen` is ignored. backend: instead of the process's own.
    """

    def __init__(self, settings: Settings | None = None, backend: Backend | None = None) -> None:
        self._given = settings or Settings()
        self._backend = backend
        self._folder: PrivateFolder | None = None
        self._thread: threading.Thread | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stopping: asyncio.Event | None = None
        self._ready = threading.Event()
        self._failure: BaseException | None = None

    @property
    def address(self) -> str:
        """`unix:/…`. Raises RuntimeError before the start and after the end."""
        if self._folder is None:
            raise RuntimeError("the embedded server is not running")
        return f"unix:{self._folder.path}/socket"

    def start(self) -> EmbeddedServer:
        """Returns when it answers."""
        backend = self._backend or shared_backend(self._given.device, self._given.threads)
        remove_dead()  # those of processes that ended without a word
        self._folder = PrivateFolder()
        self._thread = threading.Thread(target=self._run, args=(backend,), name="lossd-embedded", daemon=True)
        self._thread.start()
        self._ready.wait()
        if self._failure is not None:
            self.close()
            raise RuntimeError("the embedded server could not start") from self._failure
        atexit.register(self.close)
        return self

    def close(self) -> None:
        """Finishes accepted calls, then stops. Idempotent; nothing in a forked child, which has no such thread."""
        thread, self._thread = self._thread, None
        if thread is None or not thread.is_alive():
            return
        atexit.unregister(self.close)
        if self._loop is not None and self._stopping is not None:
            self._loop.call_soon_threadsafe(self._stopping.set)
        if thread is not threading.current_thread():  # which garbage collection of a client may run in
            thread.join()

    def __enter__(self) -> EmbeddedServer:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.close()

    def _run(self, backend: Backend) -> None:
        try:
            with asyncio.Runner(loop_factory=_loop_factory()) as runner:
                runner.run(self._serve(backend))
        except BaseException as error:  # told to whoever waits in start
            self._failure = error
        finally:
            folder, self._folder = self._folder, None
            if folder is not None:
                folder.remove()
            self._ready.set()

    async def _serve(self, backend: Backend) -> None:
        settings = replace(self._given, listen=(self.address,))
        if _forked.is_set():
            # grpc.aio does not survive a fork: core's threads stayed with the parent, which may have used it.
            settings = replace(settings, front="http2")
        self._loop = asyncio.get_running_loop()
        self._loop.set_exception_handler(_report)
        self._stopping = asyncio.Event()
        server = Server(settings, backend)
        await server.start()
        self._ready.set()
        await self._stopping.wait()
        await server.stop(settings.drain_s, linger_s=0.0)


def _loop_factory() -> Callable[[], asyncio.AbstractEventLoop] | None:
    """That of `lossd serve`, unless the interpreter has begun to end: uvloop cannot be loaded then."""
    try:
        return loop_factory()
    except RuntimeError:
        return None


def _report(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    """As asyncio does, but for what other loops of this process leave behind.

    grpc.aio gives every loop's events to whichever loop wakes first: one of a loop that is closed by then is nobody's.
    """
    error = context.get("exception")
    if not (isinstance(error, RuntimeError) and str(error) == "Event loop is closed"):
        loop.default_exception_handler(context)


def shared_backend(device: str, threads: int) -> Backend:
    """This process's backend for `device`, made and warmed up by the first who asks."""
    key = (os.getpid(), device, threads)  # a forked child has none of its parent's threads
    with _backends_lock:
        backend = _backends.get(key)
        if backend is None:
            backend = create(device, threads)
            with CompilationLine(print_error) as line:
                warm_up(backend, lambda said: line(f"lossd: {said}"))
            _backends[key] = backend
        return backend
