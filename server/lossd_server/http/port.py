"""HTTP port of a server: one thread with an event loop of its own.

So it answers while kernels are compiled and while a worker stands still, and a scrape takes no time from calls but that
of the interpreter's lock. The parent of several workers has it, or the one process.
"""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import Mapping, Sequence
from contextlib import suppress
from email.utils import formatdate

from starlette.types import ASGIApp
from uvicorn.config import Config
from uvicorn.server import ServerState

from lossd.version import __version__
from lossd_server.config.address import split
from lossd_server.config.settings import Settings
from lossd_server.front.http2.tls_listener import TlsListener
from lossd_server.http.application import Guests, application
from lossd_server.http.calls import WorkerCalls
from lossd_server.http.protocol import HttpConnection
from lossd_server.http.status_report import StatusReport
from lossd_server.identity.callers import Callers
from lossd_server.identity.certificates import CertificateFiles, Certificates
from lossd_server.metrics.collector import Build, MetricsCollector
from lossd_server.metrics.http_refusals import HttpRefusals
from lossd_server.metrics.memory import Words
from lossd_server.processes.readiness import Readiness

BACKLOG = 64
HTTP_ALPN = ["http/1.1"]
HEAD_BYTES = 16 << 10
KEEP_ALIVE_S = 5
MOST_HANDSHAKES = 64
LOOK_S = 1.0  # how late a change of certificates is noticed
STOP_S = 1.0  # for answers under way to leave
# Of each answer: nothing of it is kept, nobody guesses what it is, no other site shows it or is told of it, and a page
# runs what it has from here and nothing else.
HEADERS = [
    ("cache-control", "no-store"),
    ("x-content-type-options", "nosniff"),
    ("referrer-policy", "no-referrer"),
    ("cross-origin-resource-policy", "same-origin"),
    ("cross-origin-opener-policy", "same-origin"),
    (
        "content-security-policy",
        "; ".join(
            (
                "default-src 'none'",
                *(f"{kind}-src 'self'" for kind in ("script", "style", "img", "connect")),
                *(f"{what} 'none'" for what in ("base-uri", "form-action", "frame-ancestors")),
            )
        ),
    ),
]


class HttpPort:
    """Of the settings' `http`. words, readiness: what it tells of; `ready` adds what the start finds out.

    calls: sockets of the server's processes, by which it computes losses; none: it computes none.
    """

    def __init__(self, settings: Settings, words: Words, readiness: Readiness, calls: Sequence[str] = ()) -> None:
        """Raises SettingsError where certificates or tokens cannot be read."""
        files = CertificateFiles.of(settings)
        self._certificates = None if files is None else Certificates(files, HTTP_ALPN, demands=False)
        self._build = Build(__version__)
        collector = MetricsCollector(words, self._build, settings.front == "http2", self._certificate_ends)
        self._refusals = HttpRefusals(words)
        self._application = application(
            collector,
            readiness,
            StatusReport(words, self._build, readiness, settings),
            WorkerCalls(calls),
            Guests(Callers.of(settings), settings.http_host, files is not None),
            self._refusals,
        )
        self._address = settings.http_address
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stopping = asyncio.Event()
        self._thread: threading.Thread | None = None

    def start(self) -> str:
        """Listens. The URL, with the port that was picked. Raises OSError with a sentence."""
        host, port = split(self._address)
        try:
            family, _, _, _, where = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
            listener = socket.create_server(where[:2], family=family, backlog=BACKLOG)
        except OSError as error:
            raise OSError(f"cannot listen on {self._address}: {error.strerror or error}") from error
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._run, args=(self._loop, listener), name="lossd-http", daemon=True)
        self._thread.start()
        scheme = "http" if self._certificates is None else "https"
        return f"{scheme}://{self._address.rpartition(':')[0]}:{listener.getsockname()[1]}"

    def ready(self, devices: Sequence[str], backend: str, addresses: Sequence[str]) -> None:
        """The kernels are there. devices: of each worker, in their order. addresses: where gRPC is answered."""
        self._build.devices, self._build.backend, self._build.addresses = tuple(devices), backend, tuple(addresses)

    def stop(self) -> None:
        """Ends when what is being answered was. Nothing where it was not started."""
        if self._thread is not None and self._loop is not None:
            with suppress(RuntimeError):  # its loop is closed
                self._loop.call_soon_threadsafe(self._stopping.set)
            self._thread.join()

    def _certificate_ends(self) -> Mapping[str, float]:
        return {} if self._certificates is None else self._certificates.ends

    def _run(self, loop: asyncio.AbstractEventLoop, listener: socket.socket) -> None:
        with asyncio.Runner(loop_factory=lambda: loop) as runner:
            runner.run(self._serve(listener))

    async def _serve(self, listener: socket.socket) -> None:
        config, state = _config(self._application), ServerState()

        def made() -> HttpConnection:
            return HttpConnection(config, state, self._refusals)

        server: asyncio.Server | TlsListener
        if self._certificates is None:
            server = await asyncio.get_running_loop().create_server(made, sock=listener, backlog=BACKLOG)
        else:
            server = TlsListener(made, self._certificates.newest, MOST_HANDSHAKES)
            server.take(listener)
        while not self._stopping.is_set():
            if self._certificates is not None:
                self._certificates.look()
            state.default_headers = [(b"date", formatdate(usegmt=True).encode()), *config.encoded_headers]
            with suppress(TimeoutError):
                await asyncio.wait_for(self._stopping.wait(), LOOK_S)
        server.close()
        if isinstance(server, TlsListener):
            await server.end_handshakes()
        for connection in list(state.connections):
            connection.shutdown()
        if state.tasks:
            await asyncio.wait(state.tasks, timeout=STOP_S)


def _config(app: ASGIApp) -> Config:
    """Nothing of uvicorn but its protocol: its server would take signals, and time."""
    config = Config(
        app,
        http=HttpConnection,
        ws="none",
        lifespan="off",
        interface="asgi3",
        log_config=None,
        log_level="warning",
        access_log=False,
        proxy_headers=False,
        server_header=False,
        headers=HEADERS,
        timeout_keep_alive=KEEP_ALIVE_S,
        h11_max_incomplete_event_size=HEAD_BYTES,
    )
    config.load()
    return config
