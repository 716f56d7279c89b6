"""Clients as PyTorch's operators name them: a number, or 0 for the process's default client."""

from __future__ import annotations

from threading import Lock

from lossd import handles
from lossd.client import Client
from lossd.errors import InvalidArgument

# The default client, whichever that is when the operator runs.
DEFAULT = 0

_default: Client | None = None
_lock = Lock()


def set_client(client: Client | None) -> None:
    """Makes `client` the one of every call in this process that names none. None: one for LOSSD_SERVER again.

    It holds the client, and closes none.
    """
    global _default
    number_of(client)
    with _lock:
        _default = client


def number_of(client: Client | None) -> int:
    """What an operator is given for `client`."""
    if client is None:
        return DEFAULT
    if not isinstance(client, Client):
        raise TypeError(f"client must be a lossd.Client, not {type(client).__name__}")
    return client._handle


def client_of(number: int) -> Client:
    """The client; InvalidArgument where it is gone."""
    if number == DEFAULT:
        return _default if _default is not None else _connected()
    found = handles.find(number)
    if not isinstance(found, Client):
        raise InvalidArgument(
            f"client {number} is gone, or was another process's: keep a reference to the lossd.Client that a compiled "
            "or stored graph was made with, or make the graph without client= and name one by lossd.torch.set_client",
            field="client",
            reason="NO_SUCH_CLIENT",
        )
    return found


def _connected() -> Client:
    """The default client of a process that has set none, made by the first call that needs it."""
    global _default
    with _lock:
        if _default is None:
            _default = Client()
        return _default
