"""Warm-up: compiles or loads all that computes, for a server, an embedded one, an image and `lossd warmup` alike."""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable, Sequence

from lossd.command_line.parser import CommandParser, natural
from lossd_server.backends import Backend, create
from lossd_server.fast_path import passage
from lossd_server.jobs import kernel_cache, reduction, stacks
from lossd_server.jobs.jit import CACHE

log = logging.getLogger(__name__)


def warm_up(backend: Backend, say: Callable[[str], None]) -> bool:
    """Until this returns a call may be the first to need a kernel. Whether anything was compiled.

    say: told one line then, and nothing where all of it was in the cache.
    """
    compiled: list[str] = []

    def missed(function: str) -> None:
        if not compiled:
            kept = f"({CACHE})" if CACHE is not None else "(at every start: no cache folder can be written)"
            say(f"compiling kernels, once for this machine, about 30 s {kept}")
        compiled.append(function)

    kernel_cache.on_miss.append(missed)
    try:
        reduction.warm_up()
        stacks.warm_up()
        passage.warm_up()
        backend.warm_up(lambda step: log.debug("warm-up", extra={"step": step}))
    finally:
        kernel_cache.on_miss.remove(missed)
    return bool(compiled)


def main(argv: Sequence[str]) -> int:
    """`lossd warmup`: compiles what is not compiled yet; the exit status."""
    parser = CommandParser(
        prog="lossd warmup",
        usage="lossd warmup [--device DEVICE] [--threads N]",
        description="Compiles the kernels into this user's cache, so that no later start waits for it.",
    )
    parser.add_argument(
        "--device", choices=("auto", "cpu", "cuda"), default="auto", help="as of lossd serve (default: %(default)s)"
    )
    parser.add_argument(
        "--threads", metavar="N", type=natural, default=0, help="compute threads (default: one for each core)"
    )
    parsed = parser.parse_args(list(argv))
    try:
        backend = create(parsed.device, parsed.threads)
        compiled = warm_up(backend, lambda line: print(line, file=sys.stderr, flush=True))
    except (OSError, RuntimeError, ValueError) as error:
        print(f"lossd warmup: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    backend.close()
    kept = CACHE if CACHE is not None else "no folder, for none can be written"
    print(f"kernels {'compiled into' if compiled else 'were compiled already, in'} {kept}")
    return 0
