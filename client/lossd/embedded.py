"""Embedded server: one inside this process, for Client("embedded")."""

from __future__ import annotations

import atexit
import os
import weakref
from collections.abc import MutableMapping
from contextlib import ExitStack
from typing import Any

from lossd.extras import install_hint


class Embedded:
    """Runs from here until `close`, the owner's end or the interpreter's. address: its private Unix socket.

    connections: the owner's, let go first, or core would log that the server went away.
    """

    def __init__(self, owner: object, connections: MutableMapping[Any, Any]) -> None:
        self._stack = ExitStack()
        try:
            from lossd_server.embedded import EmbeddedServer

            server = self._stack.enter_context(EmbeddedServer())
        except ImportError as error:
            raise ImportError(
                f"an embedded server needs the server's libraries: {install_hint('server')} ({error})"
            ) from error
        self.address: str = server.address
        self.close = weakref.finalize(owner, _close, self._stack, connections, os.getpid())
        # At the interpreter's end the last registered comes first: the connections go before the server does.
        atexit.register(self.close)


def _close(stack: ExitStack, connections: MutableMapping[Any, Any], pid: int) -> None:
    # A forked child has the client but not the server's thread: the server stays its parent's.
    if os.getpid() == pid:
        connections.clear()
        stack.close()
