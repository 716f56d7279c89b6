"""`lossd serve`: reads settings, prepares kernels, opens ports, stops on signals."""

from __future__ import annotations

import asyncio
import gc
import logging
import multiprocessing
import os
import sys
from collections.abc import Callable, MutableSequence, Sequence
from contextlib import closing
from multiprocessing.connection import Connection

from lossd_server.backends import Backend, DeviceLost, create
from lossd_server.config import logs, standard_streams
from lossd_server.config.compilation_line import CompilationLine
from lossd_server.config.flags import parse_settings
from lossd_server.config.settings import Settings, SettingsError
from lossd_server.config.standard_streams import complain, say
from lossd_server.processes import malloc
from lossd_server.processes.private_folder import remove_dead
from lossd_server.processes.shared_counters import SharedCounters
from lossd_server.processes.supervisor import STOP_SIGNALS, StartFailed, Supervisor, share
from lossd_server.starting import check_before, interruptible

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


def worker(settings: Settings, index: int, memory: MutableSequence[int], pipe: Connection) -> None:
    """A worker's main function: one server of several. settings: of all together, their ports known."""
    logs.configure(settings.log_level, settings.log_format)
    remove_dead()  # that of the worker whose place this one takes
    own = share(settings, index)
    try:
        backend = interruptible(lambda: prepare_backend(own, quiet=index > 0, worker=index))
    except (OSError, RuntimeError, ValueError) as error:
        pipe.send(("failed", f"{error}"))
        sys.exit(1)

    def ready(_: list[str]) -> None:
        pipe.send(("ready", backend.device, backend.name))

    try:
        with closing(backend), asyncio.Runner(loop_factory=loop_factory()) as runner:
            runner.run(_serve(own, backend, ready, SharedCounters(index, memory), settings))
    except Exception:  # multiprocessing would write its traceback past the log
        log.critical("worker failed", exc_info=True)
        sys.exit(1)


def prepare_backend(settings: Settings, quiet: bool = False, worker: int = 0) -> Backend:
    """The backend of worker number `worker`, its kernels ready. quiet: without a line for each step.

    Raises RuntimeError or ValueError with a sentence.
    """
    malloc.keep()
    backend = create(settings.device, settings.threads, worker)
    from lossd_server.warmup import warm_up  # brings numba: not before there is something to compute

    with CompilationLine(complain) as line:
        warm_up(backend, (lambda said: None) if quiet else _teller(settings, line))
    logs.adopt_loggers()  # those of the libraries that the backend brought
    sys.setswitchinterval(SWITCH_INTERVAL_S)
    return backend


def _alone(settings: Settings) -> int:
    try:
        check_before(settings)
        backend = interruptible(lambda: prepare_backend(settings))
        with closing(backend), asyncio.Runner(loop_factory=loop_factory()) as runner:
            runner.run(
                _serve(
                    settings, backend, lambda addresses: _announce(settings, addresses, backend.device, backend.name)
                )
            )
    except (OSError, RuntimeError, ValueError) as error:
        return _fail(settings, f"{error}")
    except KeyboardInterrupt:  # before the loop took the signals over
        return 130
    return 0


def _several(settings: Settings) -> int:
    try:
        check_before(settings)
        parent = Supervisor(settings, worker)
    except (OSError, ValueError) as error:
        return _fail(settings, f"{error}")
    try:
        device, backend = parent.start()
        if device:
            _announce(parent.settings, list(parent.settings.listen), device, backend)
        parent.run()
    except StartFailed as error:
        return _fail(settings, f"{error}")
    finally:
        parent.stop()
    return 0


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
    board: SharedCounters | None = None,
    whole: Settings | None = None,
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
    server = Server(settings, backend, board, whole)
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
    log.info("stopping", extra={"drain_s": settings.drain_s})
    finished = await server.stop(settings.drain_s)
    log.info("stopped", extra={"finished": finished})
    if not lost.cancel():
        raise DeviceLost("the device was lost; only a new process can use it again")


def _announce(settings: Settings, addresses: list[str], device: str, backend: str) -> None:
    """Prints to stdout that calls are answered: the addresses, the device, the backend, the limits."""
    workers = f" workers={settings.workers}" if settings.workers > 1 else ""
    say(
        *(f"listening on {address}" for address in addresses),
        f"device {device}",
        f"backend {backend}",
        f"limits max_message_bytes={settings.max_message_bytes} max_inflight_bytes={settings.max_inflight_bytes}"
        f" max_inflight_requests={settings.max_inflight_requests} max_body_s={settings.max_body_s:g}"
        f" max_deadline_s={settings.max_deadline_s:g} drain_s={settings.drain_s:g}{workers}",
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
