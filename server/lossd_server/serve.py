"""`lossd serve`: reads settings, prepares kernels, opens ports, stops on signals."""

from __future__ import annotations

import asyncio
import gc
import logging
import multiprocessing
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from multiprocessing.connection import Connection
from typing import TYPE_CHECKING, Any

from lossd_server.backends import Backend, DeviceLost, create
from lossd_server.config import gpus, logs, standard_streams
from lossd_server.config.compilation_line import CompilationLine
from lossd_server.config.flags import parse_settings
from lossd_server.config.settings import Settings, SettingsError
from lossd_server.config.standard_streams import complain, say
from lossd_server.front.local.front import LocalSocket
from lossd_server.metrics.memory import Words
from lossd_server.metrics.worker_metrics import WorkerMetrics
from lossd_server.processes import malloc
from lossd_server.processes.private_folder import PrivateFolder, remove_dead
from lossd_server.processes.readiness import Phase, Readiness
from lossd_server.processes.start_words import StartWord, send_word
from lossd_server.processes.supervisor import STOP_SIGNALS, StartFailed, Supervisor
from lossd_server.processes.worker_share import share
from lossd_server.starting import check_before, interruptible

if TYPE_CHECKING:
    from lossd_server.http.port import HttpPort

# A busy event loop keeps the interpreter's lock from the worker's thread for this long; Python's default is 5 ms.
SWITCH_INTERVAL_S = 5e-4

log = logging.getLogger(__name__)


def main(argv: Sequence[str]) -> int:
    """Serves until SIGTERM or SIGINT. The exit status: 0 after a clean stop, 1 if it could not serve, 2 for usage."""
    standard_streams.ensure_open()
    try:
        settings = parse_settings(argv, os.environ)
    except SettingsError as error:
        complain(f"lossd serve: {error}")
        return 2
    logs.configure(settings.log_level, settings.log_format)
    remove_dead()
    return _alone(settings) if settings.workers == 1 else _several(settings)


def worker(settings: Settings, index: int, memory: Any, pipe: Connection, calls: str) -> None:
    """A worker's main function: one server of several. settings: of all together, their ports known.

    memory: of the metrics of all. calls: where those of the HTTP port come in, which the parent has; "" for nowhere.
    """
    logs.configure(settings.log_level, settings.log_format)
    remove_dead()  # that of the worker whose place this one takes
    own = share(settings, index)
    if own.device != "cpu":  # before CUDA is loaded: it reads this once
        os.environ[gpus.VISIBLE] = gpus.of_worker(os.environ, index)
    try:
        backend = interruptible(lambda: prepare_backend(own, quiet=index > 0))
    except (OSError, MemoryError, RuntimeError, ValueError) as error:
        send_word(pipe, StartWord(failed=_sentence(error)))
        sys.exit(1)
    answers = False

    def ready(_: list[str]) -> None:
        nonlocal answers
        answers = True
        send_word(pipe, StartWord(device=backend.device, backend=backend.name))

    try:
        with closing(backend), asyncio.Runner(loop_factory=loop_factory()) as runner:
            local = LocalSocket(calls, os.getppid()) if calls else None
            runner.run(_serve(own, backend, ready, WorkerMetrics(index, memory), settings, local=local))
    except Exception as error:  # multiprocessing would write its traceback past the log
        if isinstance(error, MemoryError) and not answers:
            send_word(pipe, StartWord(failed=_sentence(error)))
        else:
            log.critical("worker failed", exc_info=True)
        sys.exit(1)


def prepare_backend(settings: Settings, quiet: bool = False) -> Backend:
    """The backend, its kernels ready. quiet: without a line for each step.

    Raises RuntimeError or ValueError with a sentence.
    """
    malloc.keep()
    backend = create(settings.device, settings.threads)
    from lossd_server.warmup import warm_up  # brings numba: not before there is something to compute

    with CompilationLine(complain) as line:
        warm_up(backend, (lambda said: None) if quiet else _teller(settings, line))
    logs.adopt_loggers()  # those of the libraries that the backend brought
    sys.setswitchinterval(SWITCH_INTERVAL_S)
    return backend


def _alone(settings: Settings) -> int:
    metrics = WorkerMetrics()
    readiness = Readiness(metrics.all)
    try:
        check_before(settings)
        with _call_sockets(settings) as calls, _http_port(settings, metrics.all, readiness, calls) as (http, url):
            backend = interruptible(lambda: prepare_backend(settings))

            def ready(addresses: list[str]) -> None:
                readiness.phase = Phase.SERVING
                if http is not None:
                    http.ready([backend.device], backend.name, addresses)
                _announce(settings, addresses, [backend.device], backend.name, url)

            with closing(backend), asyncio.Runner(loop_factory=loop_factory()) as runner:
                local = LocalSocket(calls[0], os.getpid()) if calls else None
                runner.run(_serve(settings, backend, ready, metrics, readiness=readiness, local=local))
    except (OSError, MemoryError, RuntimeError, ValueError) as error:
        return _fail(settings, _sentence(error))
    except KeyboardInterrupt:  # before the loop took the signals over
        return 130
    return 0


def _several(settings: Settings) -> int:
    with _call_sockets(settings) as calls:
        return _supervised(settings, calls)


def _supervised(settings: Settings, calls: Sequence[str]) -> int:
    try:
        check_before(settings)
        parent = Supervisor(settings, worker, calls)
    except (OSError, ValueError) as error:
        return _fail(settings, f"{error}")
    try:
        with _http_port(settings, parent.metrics, parent.readiness, calls) as (http, url):
            try:
                devices, backend = parent.start()
                if devices:
                    if http is not None:
                        http.ready(devices, backend, parent.settings.listen)
                    _announce(parent.settings, list(parent.settings.listen), devices, backend, url)
                parent.run()
            finally:
                parent.stop()  # the port tells of the end until that is there
    except (OSError, ValueError, StartFailed) as error:
        return _fail(settings, f"{error}")
    finally:
        parent.stop()
    return 0


@contextmanager
def _call_sockets(settings: Settings) -> Iterator[Sequence[str]]:
    """Paths of the sockets of the HTTP port's calls, one for each worker; none without such a port, or a folder."""
    if not settings.http:
        yield ()
        return
    try:
        folder = PrivateFolder()
    except OSError as error:
        log.warning("no losses over HTTP", extra={"error": str(error)})
        yield ()
        return
    try:
        yield [f"{folder.path}/{index}" for index in range(settings.workers)]
    finally:
        folder.remove()


@contextmanager
def _http_port(
    settings: Settings, words: Words, readiness: Readiness, calls: Sequence[str]
) -> Iterator[tuple[HttpPort | None, str]]:
    """The HTTP port, where one is asked for, and its URL. Raises OSError with a sentence."""
    if not settings.http:
        yield None, ""
        return
    from lossd_server.http.port import HttpPort  # brings libraries that nobody else needs

    port = HttpPort(settings, words, readiness, calls)
    url = port.start()
    try:
        yield port, url
    finally:
        port.stop()


def _sentence(error: Exception) -> str:
    """What a start lacked. Python's own MemoryError has no words."""
    return f"{error}" or "there is not enough memory"


def loop_factory() -> Callable[[], asyncio.AbstractEventLoop]:
    """uvloop's where it is installed."""
    try:
        import uvloop
    except ImportError:
        return asyncio.new_event_loop
    return uvloop.new_event_loop


async def _serve(
    settings: Settings,
    backend: Backend,
    ready: Callable[[list[str]], None],
    metrics: WorkerMetrics,
    whole: Settings | None = None,
    readiness: Readiness | None = None,
    local: LocalSocket | None = None,
) -> None:
    """ready: called with the addresses once calls are answered. A worker whose parent has ended stops as on SIGTERM.
    So does a server whose device is lost, with DeviceLost, so that a supervisor starts it again.
    """
    from lossd_server.server import Server

    stopping = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in STOP_SIGNALS:
        loop.add_signal_handler(number, stopping.set)
    parent = multiprocessing.parent_process()
    if parent is not None:
        loop.add_reader(parent.sentinel, stopping.set)
    server = Server(settings, backend, metrics, whole, local)
    addresses = await server.start()
    # What is there now stays: 130,000 objects, most of them numba's, which a full collection looked at for 60 ms.
    gc.collect()
    gc.freeze()
    ready(addresses)
    lost = asyncio.create_task(server.device_lost())
    stop = asyncio.create_task(stopping.wait())
    await asyncio.wait((lost, stop), return_when=asyncio.FIRST_COMPLETED)
    stop.cancel()
    if parent is not None:
        loop.remove_reader(parent.sentinel)
    if readiness is not None:
        readiness.phase = Phase.STOPPING
    log.info("stopping", extra={"drain_s": settings.drain_s})
    finished = await server.stop(settings.drain_s)
    log.info("stopped", extra={"finished": finished})
    if not lost.cancel():
        raise DeviceLost("the device was lost; only a new process can use it again")


def _announce(settings: Settings, addresses: list[str], devices: list[str], backend: str, http: str) -> None:
    """Prints to stdout that calls are answered: the addresses, the device (of each worker where they differ), the
    backend, the limits, HTTP's URL.
    """
    limits = {**settings.limits(), **({"workers": settings.workers} if settings.workers > 1 else {})}
    say(
        *(f"listening on {address}" for address in addresses),
        *(f"device {device}" for device in dict.fromkeys(devices)),
        f"backend {backend}",
        " ".join(
            (
                "limits",
                *(
                    f"{name}={value:g}" if isinstance(value, float) else f"{name}={value}"
                    for name, value in limits.items()
                ),
            )
        ),
        *([f"http {http}"] if http else ()),
    )


def _teller(settings: Settings, line: CompilationLine) -> Callable[[str], None]:
    """What tells of a compilation: a reader in a plain line, a program once in JSON."""
    if settings.log_format == "json":
        line = CompilationLine(lambda said: log.info("compiling", extra={"sentence": said}), in_place=False)
        return line
    return lambda said: line(f"lossd: {said}")


def _fail(settings: Settings, sentence: str) -> int:
    """Reports why it could not serve, as `_teller` does; the exit status."""
    if settings.log_format == "json":
        log.critical("could not serve", extra={"reason": sentence})
    else:
        complain(f"lossd serve: {sentence}")
    return 1
