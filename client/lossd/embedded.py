"""Embedded server: one inside this process, for Client("embedded")."""

from __future__ import annotations

import atexit
import os
import weakref
from collections.abc import Callable
from contextlib import ExitStack

from lossd.extras import install_hint


class Embedded:
    """Runs from here until `close`, the owner's end or the interpreter's. address: its private Unix socket.

    let_go: called before it ends, in its own process only.
    """

    def __init__(self, owner: object, let_go: Callable[[], object] | None = None) -> None:
        stack = ExitStack()
        try:
            from lossd_server.embedded import EmbeddedServer

            server = stack.enter_context(EmbeddedServer())
        except ImportError as error:
            raise ImportError(
                f"an embedded server needs the server's libraries: {install_hint('server')} ({error})"
            ) from error
        if let_go is not None:
            stack.callback(let_go)
        self.address: str = server.address
        self.close = weakref.finalize(owner, _close, stack, os.getpid())
        # At the interpreter's end the last registered comes first: the client goes before the server does.
        atexit.register(self.close)
        stack.callback(atexit.unregister, self.close)


def _close(stack: ExitStack, pid: int) -> None:
    # A forked child has the client but not the server's thread: the server stays its parent's.
    if os.getpid() == pid:
        stack.close()
