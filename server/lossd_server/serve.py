"""`lossd serve`: settings, kernels, ports, signals."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import sys
from collections.abc import Callable, Sequence

from lossd_server import log as logs
from lossd_server.address import check_free
from lossd_server.backends import Backend, create
from lossd_server.settings import Settings, SettingsError, parse

# A busy event loop keeps the interpreter's lock from the worker's thread for this long; Python's default is 5 ms.
SWITCH_INTERVAL_S = 5e-4

log = logging.getLogger(__name__)


def main(argv: Sequence[str]) -> int:
    """Serves until SIGTERM or SIGINT. The exit status: 0 after a clean stop, 1 if it could not serve, 2 for usage."""
    try:
        settings = parse(argv, os.environ)
    except SettingsError as error:
        return _say(f"{error}", 2)
    logs.configure(settings.log_level, settings.log_format)
    try:
        for address in settings.listen:
            check_free(address)
        backend = create(settings.device, settings.threads)
    except (OSError, RuntimeError, ValueError) as error:
        return _say(f"{error}", 1)
    from lossd_server.evaluate import warm_up  # brings numba: not before there is something to compute

    try:
        warm_up(backend, lambda step: print(f"lossd: {step}", file=sys.stderr, flush=True))
        sys.setswitchinterval(SWITCH_INTERVAL_S)
        with asyncio.Runner(loop_factory=loop_factory()) as runner:
            return runner.run(_serve(settings, backend))
    except OSError as error:
        return _say(f"{error}", 1)
    except KeyboardInterrupt:  # before the loop took the signals over
        return 130
    finally:
        backend.close()


def loop_factory() -> Callable[[], asyncio.AbstractEventLoop]:
    """uvloop's where it is installed."""
    try:
        import uvloop
    except ImportError:
        return asyncio.new_event_loop
    return uvloop.new_event_loop


async def _serve(settings: Settings, backend: Backend) -> int:
    from lossd_server.server import Server

    stopping = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopping.set)
    server = Server(settings, backend)
    for address in await server.start():
        print(f"listening on {address}")
    print(f"device {backend.device}")
    print(f"backend {backend.name}")
    print(
        f"limits max_message_bytes={settings.max_message_bytes} max_inflight_bytes={settings.max_inflight_bytes}"
        f" max_inflight_requests={settings.max_inflight_requests} max_body_s={settings.max_body_s:g}"
        f" max_deadline_s={settings.max_deadline_s:g} drain_s={settings.drain_s:g}",
        flush=True,
    )
    await stopping.wait()
    log.info("stopping", extra={"drain_s": settings.drain_s})
    finished = await server.stop(settings.drain_s)
    log.info("stopped", extra={"finished": finished})
    return 0


def _say(sentence: str, status: int) -> int:
    print(f"lossd serve: {sentence}", file=sys.stderr)
    return status
