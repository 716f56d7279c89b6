"""`lossd eval LOSS --input FILE --target FILE`: from arguments to an exit status."""

from __future__ import annotations

import argparse
import json
import math
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

from lossd.command_error import CommandError
from lossd.evaluation.arguments import FILES, OPTIONS, eval_arguments
from lossd.evaluation.files import open_all
from lossd.evaluation.question import Question

if TYPE_CHECKING:
    from lossd.evaluation.report import LossReport

ABOVE = 3
WORST_DRAWN = 10


def main(argv: Sequence[str]) -> int:
    """Runs the command; the process's exit status."""
    parsed = eval_arguments(argv)
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
    for sentence in report.warnings:
        print(f"lossd eval: warning: {sentence}", file=sys.stderr)
    if picture is not None:
        print(f"lossd eval: wrote {parsed.plot}", file=sys.stderr)
    if parsed.fail_above is not None and not report.greatest <= parsed.fail_above:
        return _fail(_excess(report.greatest, parsed.fail_above), ABOVE)
    return 0


def _excess(loss: float, bound: float) -> str:
    return "the loss is NaN" if math.isnan(loss) else f"loss {loss:.9g} exceeds --fail-above {bound:g}"


def _question(parsed: argparse.Namespace) -> Question:
    texts = {role: getattr(parsed, role) for role in FILES if getattr(parsed, role) is not None}
    options = {name: getattr(parsed, name) for name in OPTIONS if getattr(parsed, name) is not None}
    return Question(
        method=parsed.loss,
        sources=open_all(texts, parsed.header),
        reduction=parsed.reduction,
        options=options,
        worst=parsed.worst if parsed.worst is not None else WORST_DRAWN if parsed.plot else 0,
        plot=parsed.plot is not None,
    )


def _ask(parsed: argparse.Namespace, question: Question) -> LossReport:
    import lossd
    from lossd.command_line.credential_flags import given_credentials
    from lossd.evaluation.progress import progress
    from lossd.evaluation.run import run_evaluation

    question.check()
    try:
        client = lossd.Client(parsed.server, timeout=parsed.timeout, **given_credentials(parsed))
    except ImportError as error:
        raise CommandError(f"{error}; or use a running server: --server ADDRESS") from None
    with client, progress(question.input.items) as advance:
        return run_evaluation(client, question, advance)


def _fail(sentence: str, status: int = 1) -> int:
    print(f"lossd eval: {sentence}", file=sys.stderr)
    return status
