"""Embedded server: one inside this process, for `lossd.Client("embedded")`, notebooks, scripts and tests.

The same server as `lossd serve`, in a thread with an event loop of its own, on a Unix socket that only this user can
reach. The backend, whose kernels take time to load, is made once a process; a second server starts at once.
"""

from __future__ import annotations

import atexit
import os
import sys
import threading
from dataclasses import replace

from lossd_server.backends import Backend, create
from lossd_server.config.compilation_line import CompilationLine, print_error
from lossd_server.config.settings import Settings
from lossd_server.processes.private_folder import PrivateFolder, remove_dead
from lossd_server.server_thread import ServerThread
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
        self._thread: ServerThread | None = None

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
        self._thread = ServerThread(self._settings(), backend, "lossd-embedded", self._remove_folder)
        try:
            self._thread.start()
        except BaseException as error:
            raise RuntimeError("the embedded server could not start") from error
        atexit.register(self.close)
        return self

    def close(self) -> None:
        """Finishes accepted calls, then stops. Idempotent; nothing in a forked child, which has no such thread."""
        thread, self._thread = self._thread, None
        if thread is not None:
            atexit.unregister(self.close)
            thread.close(linger_s=0.0)

    def __enter__(self) -> EmbeddedServer:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.close()

    def _settings(self) -> Settings:
        settings = replace(self._given, listen=(self.address,))
        if _forked.is_set():
            # grpc.aio does not survive a fork: core's threads stayed with the parent, which may have used it.
            settings = replace(settings, front="http2")
        if settings.traces == "off" and "opentelemetry.trace" in sys.modules:
            settings = replace(settings, traces="process")  # its client's and its spans are one trace
        return settings

    def _remove_folder(self) -> None:
        folder, self._folder = self._folder, None
        if folder is not None:
            folder.remove()


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
