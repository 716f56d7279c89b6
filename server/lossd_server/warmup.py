"""Warm-up: compiles or loads all that computes, for a server, an embedded one, an image and `lossd warmup` alike."""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable, Sequence

from lossd.command_line.parser import CommandParser, natural
from lossd_server.backends import Backend, create
from lossd_server.config.compilation_line import CompilationLine, print_error
from lossd_server.engine import batch_counts
from lossd_server.fast_path import passage
from lossd_server.jobs import kernel_cache, reduction, stacks
from lossd_server.jobs.jit import CACHE
from lossd_server.streaming import opens_walk
from lossd_server.wire import field_count

log = logging.getLogger(__name__)


# What is compiled beside the kernels: a step each.
BESIDE_KERNELS = (
    reduction.warm_up,
    stacks.warm_up,
    batch_counts.warm_up,
    passage.warm_up,
    opens_walk.warm_up,
    field_count.warm_up,
)


def warm_up(backend: Backend, say: Callable[[str], None]) -> bool:
    """Until this returns a call may be the first to need a kernel. Whether anything was compiled.

    say: told a line then, as it is at the first compilation and after each step; nothing where all was in the cache.
    """
    compiled: list[str] = []
    steps, step = len(BESIDE_KERNELS) + backend.warm_up_steps, 0

    def tell() -> None:
        kept = f"({CACHE})" if CACHE is not None else "(at every start: no cache folder can be written)"
        say(f"compiling kernels, once for this machine, about 30 s [{step}/{steps}] {kept}")

    def missed(function: str) -> None:
        if not compiled:
            tell()
        compiled.append(function)

    def begin(title: str) -> None:
        nonlocal step
        step += 1
        log.debug("warm-up", extra={"step": title})
        if compiled:
            tell()

    kernel_cache.on_miss.append(missed)
    try:
        for part in BESIDE_KERNELS:
            begin(part.__module__)
            part()
        backend.warm_up(begin)
    finally:
        kernel_cache.on_miss.remove(missed)
    return bool(compiled)


def warmup_parser() -> CommandParser:
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
    return parser


def main(argv: Sequence[str]) -> int:
    """`lossd warmup`: compiles what is not compiled yet; the exit status."""
    parsed = warmup_parser().parse_args(list(argv))
    try:
        backend = create(parsed.device, parsed.threads)
        with CompilationLine(print_error) as line:
            compiled = warm_up(backend, line)
    except (OSError, RuntimeError, ValueError) as error:
        print(f"lossd warmup: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    backend.close()
    kept = CACHE if CACHE is not None else "no folder, for none can be written"
    print(f"kernels {'compiled into' if compiled else 'were compiled already, in'} {kept}")
    return 0
