"""The arguments of `lossd bench`, and the plan that they make."""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from lossd.bench.plan import Load
from lossd.bench.windows import Rule
from lossd.bench.workload import DTYPES, LOSSES, Mix

if TYPE_CHECKING:
    from lossd.bench.run import BenchPlan

TRANSPORTS = ("auto", "unary", "stream", "shared_memory")
CONCURRENCY = (1, 32, 128)
MAP_CONCURRENCY = (128, 1024)
# Where a search starts when --rate does not say.
FIRST_RATE = 100.0
_EPILOG = """\
closed loop: --concurrency requests are under way at any time, the next is sent when one is answered. open loop: --rate
requests a second are sent whatever becomes of them, and a latency counts from the instant its request was due. Several
numbers, with commas, are a sweep: one level after another. A level ends when throughput and median latency of its last
three windows agree within 10 %, and those are what is told; after --max-s it ends anyway and is marked "not steady".
Every answer is compared with float64, or with one that was. Ctrl-C ends a bench and tells what there is.

exit status: 0 fine; 1 wrong or failed answers (a search: wrong ones), or no server; 2 wrong usage; 130 Ctrl-C

  lossd bench --server 127.0.0.1:50051
  lossd bench --server 127.0.0.1:50051 --shape 8x16,64x1000,1024x8192 --grad --concurrency 1,8 --plot bench.png
  lossd bench --server 127.0.0.1:50051 --rate 500,1000,2000 --arrivals poisson --csv bench.csv
  lossd bench --server 127.0.0.1:50051 --search-p99-ms 5 --json - | jq .search.best_rate
"""


def parse_arguments(argv: Sequence[str]) -> argparse.Namespace:
    """SystemExit 2, after argparse's message, for wrong usage."""
    parser = _parser()
    parsed = parser.parse_args(list(argv))
    _check_usage(parser, parsed)
    return parsed


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="lossd bench",
        description="Load and latency of a server, every answer checked.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--server", metavar="ADDRESS", default="embedded", help="one that runs [one in this process]")
    asked = parser.add_argument_group("what is asked")
    asked.add_argument(
        "--loss", metavar="LOSS", type=_loss, default="cross_entropy", help=f"{', '.join(LOSSES)} [cross_entropy]"
    )
    asked.add_argument(
        "--shape", metavar="NxC,…", type=_shapes, default=((8, 16),), help="of the input; several: a mix [8x16]"
    )
    asked.add_argument("--order", choices=("cycle", "random"), default="cycle", help="of the mix's requests [cycle]")
    asked.add_argument("--dtype", choices=DTYPES, default="float32", help="of the input [float32]")
    asked.add_argument("--reduction", choices=("none", "mean", "sum", "batchmean"), default="mean", help="[mean]")
    asked.add_argument("--grad", action="store_true", help="the input's gradient too")
    asked.add_argument("--seed", metavar="N", type=_natural, default=0, help="of all that is random [0]")
    asked.add_argument(
        "--check-all", action="store_true", help="compare all of every answer, not a MiB of larger tensors"
    )
    how = parser.add_argument_group("how it is sent")
    how.add_argument("--transport", choices=TRANSPORTS, default="auto", help="of the client [auto]")
    how.add_argument("--raw", action="store_true", help="messages built beforehand, not through the client: no retries")
    how.add_argument("--map", action="store_true", help="through client.map, in windows of the concurrency")
    how.add_argument("--empty", action="store_true", help="tensors that client.empty made: no copy to shared memory")
    how.add_argument("--timeout", metavar="SECONDS", type=_positive, default=10.0, help="of a request [10]")
    load = parser.add_argument_group("load")
    load.add_argument(
        "--concurrency", metavar="N,…", type=_several(_count), help="a closed loop [1,32,128; --map: 128,1024]"
    )
    load.add_argument("--rate", metavar="R,…", type=_several(_positive), help="an open loop: requests a second")
    load.add_argument("--arrivals", choices=("constant", "poisson"), help="of an open loop [constant]")
    load.add_argument("--search-p99-ms", metavar="MS", type=_positive, help="find the highest rate with p99 under MS")
    load.add_argument("--window-s", metavar="SECONDS", type=_positive, default=1.0, help="least length of a window [1]")
    load.add_argument("--max-s", metavar="SECONDS", type=_positive, default=30.0, help="most for a level [30]")
    out = parser.add_argument_group("where the results go, beside the table")
    out.add_argument("--csv", metavar="FILE", help="a line a level")
    out.add_argument("--json", metavar="FILE", help="one object; -: to stdout, instead of the table")
    out.add_argument("--plot", metavar="FILE", help="a picture of latency and throughput by load (.png, .svg, .pdf)")
    return parser


def _loss(text: str) -> str:
    loss = text.replace("-", "_")
    if loss not in LOSSES:
        raise argparse.ArgumentTypeError(f"{text!r} is none of {', '.join(LOSSES)}")
    return loss


def _shapes(text: str) -> tuple[tuple[int, ...], ...]:
    try:
        shapes = tuple(tuple(int(size) for size in one.split("x")) for one in text.split(","))
    except ValueError:
        shapes = ((0,),)
    if min(map(min, shapes)) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not like 8x16 or 8x16,64x1000: sizes above 0")
    return shapes


def _positive(text: str) -> float:
    value = float(text)
    if not value > 0 or math.isinf(value):
        raise argparse.ArgumentTypeError(f"{text} is not above 0 and finite")
    return value


def _count(text: str) -> int:
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"{text} is not above 0")
    return value


def _natural(text: str) -> int:
    value = int(text)
    if value < 0:
        raise argparse.ArgumentTypeError(f"{text} is negative")
    return value


def _several(one: Callable[[str], Any]) -> Callable[[str], tuple[Any, ...]]:
    def read(text: str) -> tuple[Any, ...]:
        try:
            return tuple(one(part) for part in text.split(","))
        except ValueError:
            raise argparse.ArgumentTypeError(f"{text!r} is not a number, or several with commas between") from None

    return read


def _check_usage(parser: argparse.ArgumentParser, parsed: argparse.Namespace) -> None:
    """argparse's error (status 2) for what does not go together."""
    if parsed.reduction == "batchmean" and parsed.loss != "kl_divergence":
        parser.error("--reduction batchmean goes with kl_divergence only")
    if parsed.concurrency and parsed.rate:
        parser.error("--concurrency is a closed loop, --rate an open one: give one of them")
    if parsed.search_p99_ms and parsed.concurrency:
        parser.error("--search-p99-ms looks for a rate: --concurrency does not go with it")
    if parsed.search_p99_ms and parsed.rate and len(parsed.rate) > 1:
        parser.error("--search-p99-ms starts at one --rate, not at several")
    if parsed.arrivals and not (parsed.rate or parsed.search_p99_ms):
        parser.error("--arrivals goes with an open loop: --rate or --search-p99-ms")
    if parsed.raw and parsed.transport not in ("auto", "unary"):
        parser.error(f"--raw sends unary messages: --transport {parsed.transport} does not go with it")
    if parsed.raw and parsed.empty:
        parser.error("--raw sends messages that hold their tensors: --empty does not go with it")
    if parsed.map and (parsed.raw or parsed.transport != "auto"):
        parser.error("--map streams, through the client: neither --raw nor --transport goes with it")
    if parsed.map and (parsed.rate or parsed.search_p99_ms):
        parser.error("--map is a closed loop: --rate and --search-p99-ms do not go with it")
    if parsed.max_s < parsed.window_s:
        parser.error("--max-s is shorter than one window (--window-s)")


def bench_plan(parsed: argparse.Namespace) -> BenchPlan:
    """What is to be run."""
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
    )
