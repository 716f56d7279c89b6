"""Start-up until the kernels are ready: what can be checked is checked first, and a signal ends it at any time."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable
from types import FrameType
from typing import TypeVar

from lossd_server.backends import triton
from lossd_server.config import gpus
from lossd_server.config.address import check_free, check_socket_path, group_of
from lossd_server.config.settings import Settings
from lossd_server.identity.callers import Callers
from lossd_server.identity.certificates import CertificateFiles
from lossd_server.telemetry.otlp import check_traces

T = TypeVar("T")

# Ends a start, as it ends a server: a clean stop; Ctrl-C has the shell's status.
_STATUS = {signal.SIGTERM: 0, signal.SIGHUP: 0, signal.SIGINT: 130}


def check_before(settings: Settings) -> None:
    """What needs no kernel is found before half a minute of compiling. Raises OSError and SettingsError."""
    for address in settings.listen if settings.workers == 1 else ():  # several workers' ports are reserved already
        check_free(address)
    if settings.http:
        check_free(settings.http_address)
    _check_gpus(settings)
    files = CertificateFiles.of(settings)
    if files is not None:
        files.context()
    Callers.of(settings)
    check_traces(settings)
    path = settings.shared_memory_socket
    if path not in ("auto", "off"):
        check_socket_path(path.replace("{worker}", "0"))
        group_of(settings.shared_memory_group)


def _check_gpus(settings: Settings) -> None:
    """Refuses more workers than GPUs, where they would compute on those. Where none is there a worker says why."""
    if settings.workers == 1 or settings.device == "cpu":
        return
    found = gpus.count()
    if 0 < found < settings.workers and triton.missing() is None:
        raise ValueError(gpus.too_few(os.environ, found, settings.workers))


def interruptible(work: Callable[[], T]) -> T:
    """What `work` gives, which compiles: by another thread, for a compiler swallows what a signal raises.

    A signal ends the process at once: nothing has been accepted yet.
    """
    found: list[T] = []
    failed: list[BaseException] = []

    def run() -> None:
        try:
            found.append(work())
        except BaseException as error:
            failed.append(error)

    def stop(number: int, _: FrameType | None) -> None:
        os._exit(_STATUS[signal.Signals(number)])

    before = {number: signal.signal(number, stop) for number in _STATUS}
    try:
        thread = threading.Thread(target=run, name="lossd-start", daemon=True)
        thread.start()
        while thread.is_alive():
            thread.join(0.1)  # signals are looked at between two waits
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    if failed:
        raise failed[0]
    return found[0]
