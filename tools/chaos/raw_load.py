"""HTTP/2 by the library h2 alone: calls that this side breaks off at a random moment, and answers that are compared."""

from __future__ import annotations

import base64
import random
import socket
import struct
import time
from contextlib import suppress

import grpc
import h2.config
import h2.connection
import h2.errors
import h2.events
import h2.exceptions
import h2.settings

from chaos.load import TIMEOUT_S, Draw, Load
from chaos.operations import Operation
from chaos.routes import Route
from lossd.errors import Error, Unavailable, from_rpc
from lossd.request.build import build
from lossd.results import read_result

SERVICE = "/lossd.v1.LossService/"
CALLS = 8
READ_BYTES = 1 << 16
# What a connection that is cut raises.
LOST = (OSError, h2.exceptions.ProtocolError, EOFError)


class CancelledError(Exception):
    """This side's own end of a call: it has reset the stream."""


class RawConnection:
    """One call after the other."""

    def __init__(self, address: str) -> None:
        host, _, port = address.rpartition(":")
        self._socket = socket.create_connection((host, int(port)), timeout=TIMEOUT_S)
        config = h2.config.H2Configuration(client_side=True, header_encoding="utf-8")
        self._h2 = h2.connection.H2Connection(config)
        self._h2.initiate_connection()
        self._h2.update_settings({h2.settings.SettingCodes.INITIAL_WINDOW_SIZE: 1 << 24})
        self._h2.increment_flow_control_window(1 << 26)
        self._events: list[h2.events.Event] = []
        self._flush()

    def call(self, rpc: str, body: bytes, break_at: int) -> bytes:
        """The answer. break_at: bytes of the body after which the stream is reset; -1 never, and for an answer that is
        not waited for, its length. Raises Error, CancelledError, and what LOST has."""
        number = self._h2.get_next_available_stream_id()
        fields = [
            (":method", "POST"),
            (":scheme", "http"),
            (":path", SERVICE + rpc),
            (":authority", "localhost"),
            ("te", "trailers"),
            ("content-type", "application/grpc"),
            ("lossd-request-bytes", str(len(body))),
        ]
        self._h2.send_headers(number, fields)
        framed = struct.pack(">BI", 0, len(body)) + body
        self._send(number, framed if break_at < 0 else framed[:break_at], ends=break_at < 0)
        if break_at >= 0:
            self._h2.reset_stream(number, h2.errors.ErrorCodes.CANCEL)
            self._flush()
            raise CancelledError
        return self._answer(number)

    def abort(self) -> None:
        """RST, whatever is under way."""
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self._socket.close()

    def close(self) -> None:
        self._socket.close()

    def _send(self, number: int, framed: bytes, ends: bool) -> None:
        at = 0
        while at < len(framed):
            room = min(self._h2.local_flow_control_window(number), self._h2.max_outbound_frame_size, len(framed) - at)
            if room <= 0:
                self._flush()
                self._read()
                if any(getattr(one, "stream_id", None) == number for one in self._ends()):
                    return  # it was answered before its end
                continue
            self._h2.send_data(number, framed[at : at + room], end_stream=ends and at + room == len(framed))
            at += room
            self._flush()

    def _ends(self) -> list[h2.events.Event]:
        return [one for one in self._events if isinstance(one, h2.events.StreamEnded | h2.events.StreamReset)]

    def _answer(self, number: int) -> bytes:
        data = b""
        fields: dict[str, str] = {}
        while True:
            for event in self._events:
                if isinstance(event, h2.events.ConnectionTerminated):
                    raise EOFError
                if getattr(event, "stream_id", None) != number:
                    continue
                if isinstance(event, h2.events.DataReceived):
                    data += event.data or b""
                elif isinstance(event, h2.events.ResponseReceived | h2.events.TrailersReceived):
                    fields |= {str(name): str(value) for name, value in event.headers or ()}
                elif isinstance(event, h2.events.StreamReset):
                    raise EOFError
                elif isinstance(event, h2.events.StreamEnded):
                    self._events.clear()
                    return _message(fields, data)
            self._events.clear()
            self._read()

    def _read(self) -> None:
        got = self._socket.recv(READ_BYTES)
        if not got:
            raise EOFError
        for event in self._h2.receive_data(got):
            if isinstance(event, h2.events.DataReceived) and event.flow_controlled_length:
                with suppress(h2.exceptions.ProtocolError):  # of a stream that this side has reset
                    self._h2.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
            self._events.append(event)
        self._flush()

    def _flush(self) -> None:
        data = self._h2.data_to_send()
        if data:
            self._socket.sendall(data)


def _message(fields: dict[str, str], data: bytes) -> bytes:
    """The message of an answer. Raises Error."""
    status = int(fields.get("grpc-status", "2"))
    if status:
        code = next(one for one in grpc.StatusCode if one.value[0] == status)
        details = fields.get("grpc-status-details-bin", "")
        trailers = [("grpc-status-details-bin", base64.b64decode(details + "=" * (-len(details) % 4)))]
        raise from_rpc(code, fields.get("grpc-message", ""), trailers if details else (), "raw")
    return data[5:]


def ask_raw(load: Load, route: Route, rng: random.Random) -> None:
    """Some calls over a connection of their own, whose end may be sudden."""
    try:
        connection = RawConnection(route.address)
    except OSError:
        time.sleep(0.1)  # its server is away
        return
    for _ in range(rng.randrange(1, CALLS)):
        losses = [one for one in load.table if one.nbytes < 2 << 20 and one.options]
        operation = rng.choice(losses)
        if not _one(load, connection, route, operation, rng):
            break
    if rng.random() < 0.3:
        connection.abort()
    connection.close()


def _one(load: Load, connection: RawConnection, route: Route, operation: Operation, rng: random.Random) -> bool:
    """Whether the connection goes on."""
    call = build(operation.method, *operation.operands, **operation.options)
    body = bytes(call.body())
    breaks = rng.random() < 0.2
    draw = Draw(route, (operation,), "raw", ours="cancel" if breaks else "")
    begun = load.begin(draw)
    try:
        answer = connection.call(call.rpc, body, rng.randrange(len(body) + 5) if breaks else -1)
        load.answered(draw, begun, read_result(call, answer, 0.0))
    except (Error, CancelledError) as error:
        load.failed(draw, begun, error, closed=False)
    except TimeoutError as error:
        load.failed(draw, begun, error, closed=False)
        return False
    except LOST:
        load.failed(draw, begun, Unavailable("the connection was lost", reason="LOST"), closed=False)
        return False
    return True
