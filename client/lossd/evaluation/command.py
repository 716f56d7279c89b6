"""`lossd eval LOSS --input FILE --target FILE`: from arguments to an exit status."""

from __future__ import annotations

import argparse
import json
import math
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, get_args

from lossd.command_error import CommandError
from lossd.evaluation.files import open_all
from lossd.evaluation.question import LOSSES, Question
from lossd.options import Kind, TargetKind
from lossd.request.build import METHODS

if TYPE_CHECKING:
    from lossd.evaluation.report import LossReport

FILES = ("input", "target", "weight", "pos_weight", "row_weight")
OPTIONS = ("ignore_index", "label_smoothing", "base", "kind", "target_kind", "dim")
ABOVE = 3
WORST_DRAWN = 10
_EPILOG = """\
FILE is a .npy, .npz, .safetensors, .csv or .parquet file; file.npz:logits names an array, file.csv:label a column
(file.csv:a,b several). A table without names stands for the columns that no other option takes from it.

exit status: 0 fine; 1 wrong values, files or server; 2 wrong usage; 3 the loss is above --fail-above, or NaN

  lossd eval cross_entropy --input logits.npy --target labels.npy
  lossd eval cross_entropy --input data.csv --target data.csv:label --server 127.0.0.1:50051 --fail-above 0.5
  lossd eval bce --input run.npz:p --target run.npz:y --json --plot run.png --worst 10
"""


def main(argv: Sequence[str]) -> int:
    """Runs the command; the process's exit status."""
    parser = _parser()
    parsed = parser.parse_args(list(argv))
    _check_usage(parser, parsed)
    try:
        return _evaluate(parsed)
    except KeyboardInterrupt:
        return 130


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="lossd eval",
        description="The loss of files, with what else the rows tell.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("loss", metavar="LOSS", type=_method, help=", ".join(LOSSES))
    for role in FILES:
        flag = "--" + role.replace("_", "-")
        parser.add_argument(flag, metavar="FILE", required=role == "input")
    parser.add_argument("--server", metavar="ADDRESS", default="embedded", help="one that runs [one in this process]")
    parser.add_argument("--timeout", metavar="SECONDS", type=_positive, default=60.0, help="for a block [%(default)s]")
    parser.add_argument("--reduction", choices=("none", "mean", "sum", "batchmean"), default="mean", help="[mean]")
    parser.add_argument("--ignore-index", metavar="CLASS", type=int, help="targets to leave out [-100]")
    parser.add_argument("--label-smoothing", metavar="X", type=float, help="in [0, 1] [0]")
    parser.add_argument("--base", metavar="B", type=_base, help="of the logarithm; 2: bits [e: nats]")
    parser.add_argument("--kind", choices=get_args(Kind), help="what the input's numbers mean")
    parser.add_argument("--target-kind", choices=get_args(TargetKind), help="what the target's numbers mean")
    parser.add_argument("--dim", metavar="D", type=int, help="the class dimension of entropy [1]")
    parser.add_argument("--fail-above", metavar="X", type=_bound, help="exit status 3 when the loss is above, or NaN")
    parser.add_argument("--json", action="store_true", help="one JSON object instead of a table")
    parser.add_argument("--plot", metavar="FILE", help="a picture: losses, calibration, worst rows (.png, .svg, .pdf)")
    parser.add_argument(
        "--worst", metavar="N", type=_count, help="name the N rows of greatest loss [0; 10 with --plot]"
    )
    return parser


def _method(text: str) -> str:
    method = text.replace("-", "_")
    if method not in LOSSES:
        raise argparse.ArgumentTypeError(f"{text!r} is none of {', '.join(LOSSES)}")
    return method


def _bound(text: str) -> float:
    value = float(text)
    if math.isnan(value):
        raise argparse.ArgumentTypeError("NaN bounds nothing")
    return value


def _positive(text: str) -> float:
    value = float(text)
    if not value > 0 or math.isinf(value):
        raise argparse.ArgumentTypeError(f"{text} is not above 0 and finite")
    return value


def _base(text: str) -> float:
    value = _positive(text)
    if value == 1:
        raise argparse.ArgumentTypeError("1 is no base of a logarithm")
    return value


def _count(text: str) -> int:
    value = int(text)
    if value < 0:
        raise argparse.ArgumentTypeError(f"{text} is negative")
    return value


def _check_usage(parser: argparse.ArgumentParser, parsed: argparse.Namespace) -> None:
    """argparse's error (status 2) for what this loss needs or does not take."""
    method = parsed.loss
    wants_target = "target" in METHODS[method].tensors
    if wants_target != (parsed.target is not None):
        parser.error(f"{method} {'needs' if wants_target else 'takes no'} --target")
    for name in (*FILES[2:], *OPTIONS):
        if getattr(parsed, name) is not None and name not in LOSSES[method]:
            parser.error(f"{method} takes no --{name.replace('_', '-')}")
    if parsed.reduction == "batchmean" and method != "kl_divergence":
        parser.error("--reduction batchmean goes with kl_divergence only")


def _evaluate(parsed: argparse.Namespace) -> int:
    import lossd
    from lossd.evaluation.plot import LossPlot

    try:
        question = _question(parsed)
        picture = LossPlot(parsed.plot) if parsed.plot else None
        report = _ask(parsed, question)
        if picture is not None:
            picture.draw(report)
    except (CommandError, lossd.Error) as error:
        return _fail(str(error))
    if parsed.json:
        from lossd.evaluation.report import loss_document

        print(json.dumps(loss_document(report), allow_nan=False))
    else:
        from lossd.evaluation.table import show_loss

        show_loss(report)
    if parsed.fail_above is not None and not report.greatest <= parsed.fail_above:
        print(f"lossd eval: the loss {report.greatest:.9g} is not at most {parsed.fail_above:g}", file=sys.stderr)
        return ABOVE
    return 0


def _question(parsed: argparse.Namespace) -> Question:
    texts = {role: getattr(parsed, role) for role in FILES if getattr(parsed, role) is not None}
    options = {name: getattr(parsed, name) for name in OPTIONS if getattr(parsed, name) is not None}
    return Question(
        method=parsed.loss,
        sources=open_all(texts),
        reduction=parsed.reduction,
        options=options,
        worst=parsed.worst if parsed.worst is not None else WORST_DRAWN if parsed.plot else 0,
        plot=parsed.plot is not None,
    )


def _ask(parsed: argparse.Namespace, question: Question) -> LossReport:
    import lossd
    from lossd.evaluation.progress import progress
    from lossd.evaluation.run import run_evaluation

    question.check()
    try:
        client = lossd.Client(parsed.server, timeout=parsed.timeout)
    except ImportError as error:
        raise CommandError(f"{error}; or name a server that runs: --server ADDRESS") from None
    with client, progress(question.input.items) as advance:
        return run_evaluation(client, question, advance)


def _fail(sentence: str) -> int:
    print(f"lossd eval: {sentence}", file=sys.stderr)
    return 1
