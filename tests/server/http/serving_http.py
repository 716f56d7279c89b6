"""A server with its HTTP port, in a thread with a loop of its own: for tests that call it as a program does."""

from __future__ import annotations

import asyncio
import json
import os
import threading
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from lossd_server.backends import Backend
from lossd_server.config.settings import Settings
from lossd_server.front.local.front import LocalSocket
from lossd_server.http.port import HttpPort
from lossd_server.processes.private_folder import PrivateFolder
from lossd_server.processes.readiness import Phase, Readiness
from lossd_server.server import Server


@dataclass
class HttpServer:
    """url: of its HTTP port. address: of gRPC. at: runs a function in the server's loop."""

    server: Server
    url: str
    address: str
    at: Callable[[Callable[[], Any]], Any]

    def post(self, loss: str, body: Any, **headers: str) -> Reply:
        raw = body if isinstance(body, bytes) else json.dumps(body).encode()
        return post(f"{self.url}/v1/losses/{loss}", raw, headers)

    def get(self, path: str, **headers: str) -> Reply:
        return ask(urllib.request.Request(self.url + path, headers=named(headers)))


@dataclass
class Reply:
    """headers: by their names in small letters. json: None where the body is none."""

    status: int
    headers: Mapping[str, str]
    text: str

    @property
    def json(self) -> Any:
        return json.loads(self.text)

    @property
    def error(self) -> Any:
        return self.json["error"]


def named(headers: Mapping[str, str]) -> dict[str, str]:
    """sec_fetch_site as Sec-Fetch-Site."""
    return {name.replace("_", "-"): value for name, value in headers.items()}


def post(url: str, raw: bytes, headers: Mapping[str, str]) -> Reply:
    return ask(urllib.request.Request(url, raw, {"content-type": "application/json"} | named(headers)))


def ask(request: urllib.request.Request) -> Reply:
    try:
        with urllib.request.urlopen(request, timeout=60) as answer:
            return reply_of(answer.status, answer)
    except urllib.error.HTTPError as error:
        with error:
            return reply_of(error.code, error)


def reply_of(status: int, answer: Any) -> Reply:
    return Reply(status, {name.lower(): value for name, value in answer.headers.items()}, answer.read().decode())


@contextmanager
def http_server(backend: Backend, **settings: Any) -> Iterator[HttpServer]:
    folder, started, stopping = PrivateFolder(), threading.Event(), asyncio.Event()
    found: list[Any] = []

    async def serve() -> None:
        socket = LocalSocket(f"{folder.path}/0", os.getpid())
        server = Server(Settings(**({"listen": ("127.0.0.1:0",), "http": "0"} | settings)), backend, local=socket)
        (address,) = await server.start()
        found.extend((server, address, asyncio.get_running_loop()))
        started.set()
        await stopping.wait()
        await server.stop(10.0, linger_s=0.0)

    thread = threading.Thread(target=asyncio.run, args=(serve(),))
    thread.start()
    started.wait()
    server, address, loop = found

    def at(function: Callable[[], Any]) -> Any:
        async def call() -> Any:
            return function()

        return asyncio.run_coroutine_threadsafe(call(), loop).result(60)

    readiness = Readiness(server.metrics.all)
    readiness.phase = Phase.SERVING
    port = HttpPort(server._settings, server.metrics.all, readiness, [f"{folder.path}/0"])
    try:
        url = port.start()
        port.ready(["a CPU"], "numba", [address])
        yield HttpServer(server, url, address, at)
    finally:
        port.stop()
        loop.call_soon_threadsafe(stopping.set)
        thread.join()
        folder.remove()
