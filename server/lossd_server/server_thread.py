"""Server thread: one server in an event loop of its own, beside what else its process does."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from typing import Any

from lossd_server.backends import Backend
from lossd_server.config.settings import Settings
from lossd_server.serve import loop_factory
from lossd_server.server import LINGER_S, Server


class ServerThread:
    """`start` and `close`, once each. ended: called by the thread when it ends, however it does.

    server: while it answers, else None.
    """

    def __init__(self, settings: Settings, backend: Backend, name: str, ended: Callable[[], None]) -> None:
        self._settings = settings
        self._backend = backend
        self._name = name
        self._ended = ended
        self._thread: threading.Thread | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stopping: asyncio.Event | None = None
        self._linger_s = LINGER_S
        self._ready = threading.Event()
        self._failure: BaseException | None = None
        self._addresses: list[str] = []
        self.server: Server | None = None

    def start(self) -> list[str]:
        """Returns its addresses, with the ports that were picked, when it answers. Raises what its start raises."""
        self._thread = threading.Thread(target=self._run, name=self._name, daemon=True)
        self._thread.start()
        self._ready.wait()
        if self._failure is not None:
            self._thread.join()
            raise self._failure
        return self._addresses

    def close(self, linger_s: float = LINGER_S) -> None:
        """Finishes accepted calls, then stops. Idempotent; nothing in a forked child, which has no such thread.

        linger_s: for which calls that come late hear that it ends.
        """
        thread, self._thread = self._thread, None
        if thread is None or not thread.is_alive():
            return
        self._linger_s = linger_s
        if self._loop is not None and self._stopping is not None:
            self._loop.call_soon_threadsafe(self._stopping.set)
        if thread is not threading.current_thread():  # which garbage collection of a client may run in
            thread.join()

    def _run(self) -> None:
        try:
            with asyncio.Runner(loop_factory=_loop_factory()) as runner:
                runner.run(self._serve())
        except BaseException as error:  # told to whoever waits in start
            self._failure = error
        finally:
            self._ended()
            self._ready.set()

    async def _serve(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._loop.set_exception_handler(_report)
        self._stopping = asyncio.Event()
        server = Server(self._settings, self._backend)
        self._addresses = await server.start()
        self.server = server
        self._ready.set()
        await self._stopping.wait()
        await server.stop(self._settings.drain_s, self._linger_s)
        self.server = None


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
