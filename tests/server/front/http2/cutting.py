"""What bytes mean to a connection, however they are cut."""

from __future__ import annotations

from collections.abc import Iterable

from lossd_server.front.http2.connection import Http2Connection
from lossd_server.front.http2.events import Event, MessagesCame
from lossd_server.front.http2.limits import Http2Limits
from tests.server.front.http2 import wire


def told(events: Iterable[Event]) -> list[Event]:
    """Events but those of pieces, which are as many as the cuts make them; of faults, each stream's first counts."""
    found: list[Event] = []
    faulty: set[int] = set()
    for event in events:
        if not isinstance(event, MessagesCame):
            found.append(event)
        elif event.fault and event.stream_id not in faulty:
            faulty.add(event.stream_id)
            found.append(event)
    return found


def ran(pieces: Iterable[bytes]) -> tuple[list[Event], list[wire.Received], dict[int, list[bytes]]]:
    """Events, frames but windows, and by stream the messages that nobody took."""
    connection = Http2Connection(Http2Limits(), {})
    events: list[Event] = []
    sent = b""
    messages: dict[int, list[bytes]] = {}
    for piece in (b"", *pieces):
        connection.receive(piece, 0.0)
        events += connection.events
        connection.events.clear()
        sent += b"".join(connection.outgoing.take())
    for number, stream in connection.streams.items():
        while (body := stream.reader.take()) is not None:
            messages.setdefault(number, []).append(bytes(body))
    found = [one for one in wire.parse(sent) if one.kind != wire.WINDOW_UPDATE]
    return told(events), found, messages
