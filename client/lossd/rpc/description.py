"""A client as a text: what repr() shows."""

from __future__ import annotations


def describe_client(name: str, address: str, *, closed: bool, opened: bool) -> str:
    """`<lossd.Client 127.0.0.1:50051, connected>`. opened: whether a call has opened a connection."""
    state = "closed" if closed else "connected" if opened else "not yet connected"
    return f"<{name} {address}, {state}>"
