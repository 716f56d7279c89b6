"""lossd's two fronts under raw HTTP/2: what a small call costs the server, whatever its client.

    python benchmarks/fronts.py [--rounds 5] [--calls 6000] [--json figures.json]

One connection; bursts of 1, 32 or 128 calls are written at once and their answers read before the next. The request is
a cross-entropy of (8, 16) float32 logits. Both servers are processes of their own and take turns; medians count. Every
answer of every round is compared with float64.
"""

from __future__ import annotations

import argparse
import json
import os
import socket
import struct
from pathlib import Path
from statistics import median
from time import perf_counter
from typing import Any

from machine import describe
from processes import Server, serving
from servers import LOSSD
from service import read, request

BURSTS = (1, 32, 128)
DISTRIBUTIONS = ("grpcio", "hpack", "protobuf", "uvloop", "numpy", "numba")
PATH = "/lossd.v1.LossService/CrossEntropy"
PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
DATA, HEADERS, RST_STREAM, SETTINGS, PING, GOAWAY, WINDOW_UPDATE = 0, 1, 3, 4, 6, 7, 8
END_STREAM, ACK, END_HEADERS = 1, 1, 4
WIDEST = (1 << 31) - 1
NO_TABLE = b"\x20"  # before a header block: no dynamic table is used


def frame(kind: int, flags: int, stream_id: int, payload: bytes) -> bytes:
    return len(payload).to_bytes(3, "big") + bytes((kind, flags)) + stream_id.to_bytes(4, "big") + payload


def literal(name: bytes, value: bytes) -> bytes:
    return b"\0" + bytes([len(name)]) + name + bytes([len(value)]) + value


class RawClient:
    """A connection on which the same call is made again and again."""

    def __init__(self, address: str, body: bytes, path: str = PATH) -> None:
        host, _, port = address.rpartition(":")
        self._socket = socket.create_connection((host, int(port)))
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._message = b"\0" + len(body).to_bytes(4, "big") + body
        self._block = b"\x83\x86" + b"".join(
            literal(name, value)
            for name, value in (
                (b":path", path.encode()),
                (b":authority", address.encode()),
                (b"content-type", b"application/grpc"),
                (b"te", b"trailers"),
                (b"lossd-request-bytes", str(len(body)).encode()),
            )
        )
        self._next_id = 1
        self._rest = b""
        windows = frame(SETTINGS, 0, 0, b"\0\4" + WIDEST.to_bytes(4, "big"))
        windows += frame(WINDOW_UPDATE, 0, 0, (WIDEST - 65_535).to_bytes(4, "big"))
        self._socket.sendall(PREFACE + windows)
        self._acknowledged = False
        while not self._acknowledged:
            self._receive([])
        self._prefix = NO_TABLE

    def burst(self, calls: int) -> list[bytes]:
        """The answers to so many calls at once, in the order in which they came."""
        parts = []
        for _ in range(calls):
            block, self._prefix = self._prefix + self._block, b""
            parts.append(frame(HEADERS, END_HEADERS, self._next_id, block))
            parts.append(frame(DATA, END_STREAM, self._next_id, self._message))
            self._next_id += 2
        self._socket.sendall(b"".join(parts))
        answers: list[bytes] = []
        ended = 0
        while ended < calls:
            ended += self._receive(answers)
        return answers

    def _receive(self, answers: list[bytes]) -> int:
        """Reads what is there; how many calls ended."""
        data = self._socket.recv(1 << 18)
        if not data:
            raise RuntimeError("the server has closed the connection")
        data, at, ended = self._rest + data, 0, 0
        while len(data) - at >= 9:
            size = int.from_bytes(data[at : at + 3], "big")
            if len(data) - at < 9 + size:
                break
            kind, flags, payload = data[at + 3], data[at + 4], data[at + 9 : at + 9 + size]
            at += 9 + size
            if kind == DATA and payload:
                answers.append(payload[5:])
            elif kind == SETTINGS and not flags & ACK:
                self._socket.sendall(frame(SETTINGS, ACK, 0, b""))
                self._acknowledged = True
            elif kind == PING and not flags & ACK:
                self._socket.sendall(frame(PING, ACK, 0, payload))
            elif kind in (RST_STREAM, GOAWAY):
                raise RuntimeError(f"the server refused: {struct.unpack('>I', payload[-4:])[0]}")
            ended += kind == HEADERS and bool(flags & END_STREAM)
        self._rest = data[at:]
        return ended


def server_seconds(server: Server) -> float:
    """Processor time of the server so far."""
    stat = Path(f"/proc/{server.pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()
    return (int(stat[11]) + int(stat[12])) / os.sysconf("SC_CLK_TCK")


def round_of(server: Server, client: RawClient, burst: int, calls: int, loss: float) -> tuple[float, float]:
    """Calls a second, and microseconds of the server's processor each."""
    answers: list[bytes] = []
    used, start = server_seconds(server), perf_counter()
    for _ in range(calls // burst):
        answers += client.burst(burst)
    seconds, used = perf_counter() - start, server_seconds(server) - used
    read(answers, loss)
    return len(answers) / seconds, used / len(answers) * 1e6


def main() -> None:
    parser = argparse.ArgumentParser(description="A small call's cost on both fronts, by raw HTTP/2.")
    parser.add_argument("--rounds", type=int, default=5, help="rounds of each server and burst, by turns")
    parser.add_argument("--calls", type=int, default=6000, help="calls of a round")
    parser.add_argument("--json", type=Path, help="file for the figures")
    asked = parser.parse_args()
    message, loss = request()
    figures: dict[str, Any] = {"machine": describe(*DISTRIBUTIONS), "calls": {}}
    print(figures["machine"])
    with serving([*LOSSD, "--front", "grpcio"]) as grpcio, serving([*LOSSD, "--front", "http2"]) as http2:
        servers = {"grpcio": grpcio, "http2": http2}
        clients = {name: RawClient(server.address, message) for name, server in servers.items()}
        for burst in BURSTS:
            rounds: dict[str, list[tuple[float, float]]] = {name: [] for name in servers}
            for index in range(asked.rounds + 1):
                for name, server in servers.items():
                    found = round_of(server, clients[name], burst, asked.calls, loss)
                    if index:  # the first warms up
                        rounds[name].append(found)
            middle = {name: [median(column) for column in zip(*taken, strict=True)] for name, taken in rounds.items()}
            figures["calls"][burst] = middle
            for name, (each_s, each_us) in middle.items():
                print(f"{burst:4} at once, {name:6}: {each_s:10,.0f} calls/s {each_us:8.1f} µs of the server each")
    if asked.json:
        asked.json.write_text(json.dumps(figures, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
