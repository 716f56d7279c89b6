"""The arguments of `lossd eval`."""

from __future__ import annotations

import argparse
import math
import re
from collections.abc import Sequence

from lossd.command_line.credential_flags import add_credential_flags
from lossd.command_line.parser import CommandParser, fraction, int64, natural, number, one_of, positive, seconds
from lossd.contract import KINDS
from lossd.errors import shown_value
from lossd.evaluation.question import LOSSES
from lossd.request.build import METHODS
from lossd.request.option_values import alternatives

# Each file's flag, and what it holds.
FILES = {
    "input": "the model's output, one row per example: logits, probabilities, log-probabilities or counts (required)",
    "target": "the true value of each row: a class index or a distribution; for bce and bce_with_logits, a number from "
    "0 to 1 for each element (not for entropy and self_information)",
    "weight": "a weight for each class (cross_entropy, nll) or each element (bce, bce_with_logits)",
    "pos_weight": "a weight for the positive term (bce_with_logits)",
    "row_weight": "a weight for each row (cross_entropy, entropy)",
}
OPTIONS = ("ignore_index", "label_smoothing", "base", "kind", "target_kind", "dim")
_TEXT = re.compile(r"\.[ct]sv(:|$)|-(:|$)|[^:]*[*?\[]", re.IGNORECASE)
_EPILOG = """\
FILE is a .npy, .npz, .safetensors, .csv, .tsv or .parquet file, or - for
standard input. file.npz:logits is an array in it, file.csv:label a column,
file.csv:a,b several columns. A table without column names means all columns
that no other option uses. Several files, or a pattern in quotes such as
'part-*.csv:label', are one array, in this order or by name.

exit status: 0 success; 1 wrong values, files or server; 2 wrong usage; 3 the
loss exceeds --fail-above or is NaN, or is worse by --fail-if-worse

examples:
  lossd eval cross_entropy --input logits.npy --target labels.npy
  lossd eval cross_entropy --input data.csv --target data.csv:label
  lossd eval bce --input run.npz:p --target run.npz:y --plot run.png --worst 10
  lossd eval cross_entropy --input 'part-*.csv' --target 'part-*.csv:label'
  zcat data.csv.gz | lossd eval cross_entropy --input - --target -:label
  lossd eval nll --input u.npy --target y.npy --json --fail-above 0.5
  lossd eval nll --input new.npy --target y.npy --against old.json --html r.html
"""


def eval_arguments(argv: Sequence[str]) -> argparse.Namespace:
    """SystemExit 2, after the mistake, for wrong usage."""
    parser = _parser()
    parsed = parser.parse_args(_loss_first(argv))
    _check_usage(parser, parsed)
    return parsed


def _loss_first(argv: Sequence[str]) -> list[str]:
    """The loss may stand anywhere, also after a list of files, which would take it for one."""
    for i, text in enumerate(argv):
        if text.replace("-", "_") in LOSSES:
            return [text, *argv[:i], *argv[i + 1 :]]
    return [*argv]


def _parser() -> argparse.ArgumentParser:
    parser = CommandParser(
        prog="lossd eval",
        usage="lossd eval LOSS --input FILE [--target FILE] [options]",
        description="Computes the loss of files, and accuracy and calibration where defined.",
        epilog=_EPILOG,
    )
    parser.add_argument("loss", metavar="LOSS", type=one_of("loss", tuple(LOSSES)), help=f"one of {', '.join(LOSSES)}")
    _add_files(parser.add_argument_group("files"))
    _add_options(parser.add_argument_group("options of the loss"))
    _add_server(parser.add_argument_group("server"))
    _add_outputs(parser.add_argument_group("output"))
    return parser


def _add_files(group: argparse._ArgumentGroup) -> None:
    for role, text in FILES.items():
        group.add_argument(
            "--" + role.replace("_", "-"),
            metavar="FILE",
            nargs="+",
            action="extend",
            required=role == "input",
            help=text,
        )
    group.add_argument(
        "--header",
        action=argparse.BooleanOptionalAction,
        help="whether the first row of each .csv or .tsv file holds the columns' names (default: if it is text; a row "
        "of numbers is data)",
    )
    group.add_argument(
        "--separator",
        metavar="CHARACTER",
        type=_separator,
        help="what separates the cells of .csv and .tsv files: a character, or tab (default: commas, else semicolons "
        "or tabs; of .tsv files tabs)",
    )


def _separator(text: str) -> str:
    character = {"tab": "\t", "\\t": "\t", "space": " "}.get(text, text)
    if len(character) != 1 or not character.isascii() or character in '"\r\n\0':
        raise argparse.ArgumentTypeError(f"{shown_value(text)} must be one character of ASCII, such as ; or tab")
    return character


def _add_options(group: argparse._ArgumentGroup) -> None:
    group.add_argument(
        "--reduction",
        choices=("none", "mean", "sum", "batchmean"),
        default="mean",
        help="how the losses become one number; none keeps each; batchmean: kl_divergence only (default: mean)",
    )
    group.add_argument(
        "--ignore-index", metavar="CLASS", type=int64, help="leave out rows with this target (default: -100)"
    )
    group.add_argument(
        "--label-smoothing",
        metavar="X",
        type=fraction,
        help="share of the target to spread over all classes, 0 to 1 (default: 0)",
    )
    group.add_argument("--base", metavar="B", type=_base, help="base of the logarithm; 2 gives bits (default: e, nats)")
    group.add_argument(
        "--kind",
        choices=_kinds("kind"),
        help="what the input's numbers are (default: logits for cross_entropy, probabilities for entropy, "
        "log_probabilities for kl_divergence)",
    )
    group.add_argument(
        "--target-kind",
        choices=_kinds("target_kind"),
        help="what the target's numbers are (default: indices for integers with cross_entropy, else probabilities)",
    )
    group.add_argument(
        "--dim", metavar="D", type=int64, help="the class dimension of entropy (default: 1; 0 for a 1-D input)"
    )


def _kinds(option: str) -> tuple[str, ...]:
    """Those that any loss takes; `_check_usage` asks for this loss's."""
    return tuple(dict.fromkeys(kind for (_, name), kinds in KINDS.items() if name == option for kind in kinds))


def _add_server(group: argparse._ArgumentGroup) -> None:
    group.add_argument(
        "--server",
        metavar="ADDRESS",
        default="embedded",
        help="a running server's address, host:port or unix:path, or several with commas between, to share "
        "the blocks (default: a server inside this process)",
    )
    group.add_argument(
        "--timeout",
        metavar="SECONDS",
        type=seconds,
        default=60.0,
        help="give up after this many seconds without progress (default: %(default)g)",
    )
    add_credential_flags(group)


def _add_outputs(group: argparse._ArgumentGroup) -> None:
    group.add_argument("--json", action="store_true", help="print one JSON object instead of a table")
    group.add_argument(
        "--worst",
        metavar="N",
        type=natural,
        help="list the N rows of greatest loss (default: 0; 10 with --plot or --html)",
    )
    group.add_argument(
        "--per-class",
        action="store_true",
        help="list how many rows each class has, their mean loss, and how many were predicted right",
    )
    group.add_argument("--save", metavar="FILE", help="write what --json prints, and sums of the rows for --against")
    group.add_argument(
        "--against",
        metavar="FILE",
        help="compare with a run that --save wrote: the difference of the means, with a 95%% confidence interval",
    )
    group.add_argument(
        "--fail-if-worse",
        metavar="BY",
        nargs="?",
        type=_allowance,
        const=0.0,
        help="exit with status 3 if the loss is worse than that of --against by more than BY and chance: the whole "
        "interval lies above BY (default: 0), or there is none",
    )
    group.add_argument("--html", metavar="FILE", help="write a report that any browser shows, all in one file")
    group.add_argument(
        "--plot", metavar="FILE", help="draw losses, calibration and the worst rows into a .png, .svg or .pdf file"
    )
    group.add_argument(
        "--fail-above", metavar="X", type=_bound, help="exit with status 3 if the loss exceeds X or is NaN"
    )


def _bound(text: str) -> float:
    value = number(text)
    if math.isnan(value):
        raise argparse.ArgumentTypeError("NaN cannot be a limit")
    return value


def _allowance(text: str) -> float:
    value = number(text)
    if not 0 <= value < math.inf:
        raise argparse.ArgumentTypeError(f"{shown_value(text)} must be at least 0 and finite")
    return value


def _base(text: str) -> float:
    value = positive(text)
    if value == 1:
        raise argparse.ArgumentTypeError("a logarithm's base cannot be 1")
    return value


def _check_usage(parser: argparse.ArgumentParser, parsed: argparse.Namespace) -> None:
    """Exit status 2 for what this loss needs or does not take."""
    method = parsed.loss
    wants_target = "target" in METHODS[method].tensors
    if wants_target != (parsed.target is not None):
        parser.error(f"{method} {'needs' if wants_target else 'does not take'} --target")
    for name in ("weight", "pos_weight", "row_weight", *OPTIONS):
        if getattr(parsed, name) is not None and name not in LOSSES[method]:
            parser.error(f"{method} does not take --{name.replace('_', '-')}")
    for name in ("kind", "target_kind"):
        kinds = KINDS.get((f"{METHODS[method].rpc}Request", name), ())
        if getattr(parsed, name) is not None and getattr(parsed, name) not in kinds:
            flag = f"--{name.replace('_', '-')}"
            parser.error(f"{method} takes {flag} {alternatives(kinds)}, not {getattr(parsed, name)!r}")
    given = [text for role in FILES for text in getattr(parsed, role) or ()]
    tables = any(_TEXT.search(text) for text in given)
    if parsed.header is not None and not tables:
        parser.error("--header and --no-header are about .csv files, and none is given")
    if parsed.separator is not None and not tables:
        parser.error("--separator is about .csv and .tsv files, and none is given")
    if parsed.reduction == "batchmean" and method != "kl_divergence":
        parser.error("--reduction batchmean works only with kl_divergence")
    if parsed.against is not None and parsed.reduction != "mean":
        parser.error(f"--against compares means, which --reduction {parsed.reduction} has not")
    if parsed.fail_if_worse is not None and parsed.against is None:
        parser.error("--fail-if-worse needs --against FILE, the run to compare with")
    if parsed.per_class and method in ("kl_divergence", "entropy", "self_information"):
        parser.error(f"--per-class needs class indices as the target, which {method} does not take")
