"""The arguments of `lossd bench`, and the plan that they make."""

from __future__ import annotations

import argparse
import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

from lossd.bench.plan import Load
from lossd.bench.windows import Rule
from lossd.bench.workload import DTYPES, LOSSES, Mix
from lossd.command_line.credential_flags import add_credential_flags, given_credentials
from lossd.command_line.parser import CommandParser, counted, listed, natural, one_of, positive, seconds
from lossd.errors import shown_value

if TYPE_CHECKING:
    from lossd.bench.run import BenchPlan

TRANSPORTS = ("auto", "unary", "stream", "shared_memory")
CONCURRENCY = (1, 32, 128)
MAP_CONCURRENCY = (128, 1024)
# More requests in flight than any server takes, and more elements than memory holds a few copies of.
MOST_CONCURRENCY = 1 << 16
MOST_ELEMENTS = 1 << 32
# Where a search starts when --rate does not say.
FIRST_RATE = 100.0
_EPILOG = """\
Closed loop (--concurrency): the next request is sent when one is answered.
Open loop (--rate): requests are sent at that rate however slow the answers
are, and a latency counts from the moment its request was due.

Several numbers, separated by commas, are measured one after another. A level
ends when throughput and median latency of its last three windows agree within
10 %; these three are reported. After --max-s it ends anyway and is marked "not
steady". Every answer is checked against float64. Ctrl-C ends a bench and
reports what was measured so far.

exit status: 0 success; 1 wrong or failed answers (in a search: wrong ones) or
no server; 2 wrong usage; 130 Ctrl-C

examples:
  lossd bench --server 127.0.0.1:50051
  lossd bench --shape 8x16,64x1000 --grad --concurrency 1,8 --plot bench.png
  lossd bench --rate 500,1000,2000 --arrivals poisson --csv bench.csv
  lossd bench --search-p99-ms 5 --json - | jq .search.best_rate
"""


def parse_arguments(argv: Sequence[str]) -> argparse.Namespace:
    """SystemExit 2, after the mistake, for wrong usage."""
    parser = _parser()
    parsed = parser.parse_args(list(argv))
    _check_usage(parser, parsed)
    return parsed


def _parser() -> argparse.ArgumentParser:
    parser = CommandParser(
        prog="lossd bench",
        usage="lossd bench [--server ADDRESS] [options]",
        description="Measures a server's throughput and latency, and checks every answer.",
        epilog=_EPILOG,
    )
    parser.add_argument(
        "--server",
        metavar="ADDRESS",
        default="embedded",
        help="a running server's address, host:port or unix:path (default: a server inside this process)",
    )
    add_credential_flags(parser)
    _add_requests(parser.add_argument_group("what is sent"))
    _add_sending(parser.add_argument_group("how it is sent"))
    _add_load(parser.add_argument_group("load"))
    _add_outputs(parser.add_argument_group("output, besides the tables"))
    return parser


def _add_requests(group: argparse._ArgumentGroup) -> None:
    group.add_argument(
        "--loss",
        metavar="LOSS",
        type=one_of("loss", tuple(LOSSES)),
        default="cross_entropy",
        help=f"{', '.join(LOSSES)} (default: %(default)s)",
    )
    group.add_argument(
        "--shape", metavar="NxC,…", type=_shapes, default=((8, 16),), help="shapes of the input (default: 8x16)"
    )
    group.add_argument(
        "--order",
        choices=("cycle", "random"),
        default="cycle",
        help="in which order several shapes are sent (default: %(default)s)",
    )
    group.add_argument("--dtype", choices=DTYPES, default="float32", help="the input's dtype (default: %(default)s)")
    group.add_argument(
        "--reduction",
        choices=("none", "mean", "sum", "batchmean"),
        default="mean",
        help="as in Python; batchmean: kl_divergence only (default: %(default)s)",
    )
    group.add_argument("--grad", action="store_true", help="ask for the gradient by the input, too")
    group.add_argument(
        "--seed",
        metavar="N",
        type=natural,
        default=0,
        help="seed of the tensors, the random order and the random arrivals (default: %(default)s)",
    )
    group.add_argument(
        "--check-all",
        action="store_true",
        help="compare all of every answer; otherwise, of each answer with tensors above 1 MiB, 1 MiB at a time",
    )


def _add_sending(group: argparse._ArgumentGroup) -> None:
    group.add_argument(
        "--transport", choices=TRANSPORTS, default="auto", help="the client's transport (default: %(default)s)"
    )
    group.add_argument(
        "--raw", action="store_true", help="send unary messages that were built beforehand, and never retry"
    )
    group.add_argument("--map", action="store_true", help="send through client.map; --concurrency is its window")
    group.add_argument(
        "--empty", action="store_true", help="keep tensors in arrays of client.empty: no copy to shared memory"
    )
    group.add_argument(
        "--timeout",
        metavar="SECONDS",
        type=seconds,
        default=10.0,
        help="seconds for a request with its retries (default: %(default)g)",
    )


def _add_load(group: argparse._ArgumentGroup) -> None:
    group.add_argument(
        "--concurrency",
        metavar="N,…",
        type=listed(counted(MOST_CONCURRENCY)),
        help="closed loop: requests in flight (default: 1,32,128; with --map 128,1024)",
    )
    group.add_argument("--rate", metavar="R,…", type=listed(positive), help="open loop: requests a second")
    group.add_argument(
        "--arrivals",
        choices=("constant", "poisson"),
        help="open loop: evenly spaced or random requests (default: constant)",
    )
    group.add_argument(
        "--search-p99-ms",
        metavar="MS",
        type=positive,
        help="find the highest rate at which the 99th percentile of latency stays below MS milliseconds",
    )
    group.add_argument(
        "--window-s",
        metavar="SECONDS",
        type=seconds,
        default=1.0,
        help="shortest length of a window, in seconds (default: %(default)g)",
    )
    group.add_argument(
        "--max-s",
        metavar="SECONDS",
        type=seconds,
        default=30.0,
        help="longest time for a level, in seconds (default: %(default)g)",
    )


def _add_outputs(group: argparse._ArgumentGroup) -> None:
    group.add_argument("--csv", metavar="FILE", help="write one line for each level")
    group.add_argument("--json", metavar="FILE", help="write one JSON object; - prints it instead of the tables")
    group.add_argument("--plot", metavar="FILE", help="draw throughput and latency by load (.png, .svg or .pdf)")


def _shapes(text: str) -> tuple[tuple[int, ...], ...]:
    try:
        shapes = tuple(tuple(int(size) for size in one.split("x")) for one in text.split(","))
    except ValueError:
        shapes = ((0,),)
    if min(map(min, shapes)) < 1:
        shown = shown_value(text)
        raise argparse.ArgumentTypeError(f"{shown} is not a shape; expected sizes above 0, as in 8x16 or 8x16,64x1000")
    if max(map(math.prod, shapes)) > MOST_ELEMENTS:
        raise argparse.ArgumentTypeError(f"{shown_value(text)} has more than {MOST_ELEMENTS:,} elements")
    return shapes


def _check_usage(parser: argparse.ArgumentParser, parsed: argparse.Namespace) -> None:
    """Exit status 2 for arguments that cannot be combined."""
    if parsed.reduction == "batchmean" and parsed.loss != "kl_divergence":
        parser.error("--reduction batchmean works only with kl_divergence")
    if parsed.concurrency and parsed.rate:
        parser.error("--concurrency is a closed loop and --rate an open one: give only one of them")
    if parsed.search_p99_ms and parsed.concurrency:
        parser.error("--search-p99-ms searches for a rate and cannot be combined with --concurrency")
    if parsed.search_p99_ms and parsed.rate and len(parsed.rate) > 1:
        parser.error("--search-p99-ms takes one --rate to start from, not several")
    if parsed.arrivals and not (parsed.rate or parsed.search_p99_ms):
        parser.error("--arrivals needs an open loop: --rate or --search-p99-ms")
    if parsed.raw and parsed.transport not in ("auto", "unary"):
        parser.error(f"--raw sends unary messages and cannot be combined with --transport {parsed.transport}")
    if parsed.raw and parsed.empty:
        parser.error("--raw sends tensors inside messages and cannot be combined with --empty")
    if parsed.map and (parsed.raw or parsed.transport != "auto"):
        parser.error("--map streams through the client and cannot be combined with --raw or --transport")
    if parsed.map and (parsed.rate or parsed.search_p99_ms):
        parser.error("--map is a closed loop and cannot be combined with --rate or --search-p99-ms")
    if parsed.max_s < parsed.window_s:
        parser.error("--max-s is shorter than one window (--window-s)")


def bench_plan(parsed: argparse.Namespace) -> BenchPlan:
    """The plan of the run."""
    from lossd.bench.run import BenchPlan

    mix = Mix(
        loss=parsed.loss,
        shapes=parsed.shape,
        dtype=parsed.dtype,
        reduction=parsed.reduction,
        gradient=parsed.grad,
        order=parsed.order,
        seed=parsed.seed,
    )
    searching = parsed.search_p99_ms is not None
    if parsed.rate or searching:
        loads = [Load(rate=rate, arrivals=parsed.arrivals or "constant") for rate in parsed.rate or (FIRST_RATE,)]
    else:
        several = parsed.concurrency or (MAP_CONCURRENCY if parsed.map else CONCURRENCY)
        loads = [Load(concurrency=concurrency) for concurrency in several]
    bound_s = parsed.search_p99_ms / 1e3 if searching else math.inf
    return BenchPlan(
        address=parsed.server,
        mix=mix,
        loads=loads,
        rule=Rule(window_s=parsed.window_s, max_s=parsed.max_s, p99_s=bound_s),
        transport=parsed.transport,
        raw=parsed.raw,
        mapped=parsed.map,
        shared=parsed.empty,
        thorough=parsed.check_all,
        timeout_s=parsed.timeout,
        shown=given_credentials(parsed),
    )
