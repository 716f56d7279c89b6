"""`lossd eval LOSS --input FILE --target FILE`: from arguments to an exit status."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from lossd.command_error import CommandError
from lossd.command_line.error_text import error_text
from lossd.evaluation.arguments import FILES, OPTIONS, eval_arguments
from lossd.evaluation.gates import above, worse
from lossd.evaluation.question import Question
from lossd.evaluation.readers.files import open_all
from lossd.evaluation.readers.standard_input import StandardInput
from lossd.evaluation.reports import github

if TYPE_CHECKING:
    from lossd.evaluation.comparing.comparison import SavedRun
    from lossd.evaluation.reports.report import LossReport

GATE_FAILS = 3
WORST_DRAWN = 10


def main(argv: Sequence[str]) -> int:
    """Runs the command; the process's exit status."""
    parsed = eval_arguments(argv)
    import lossd

    try:
        report = _evaluated(parsed)
    except (CommandError, lossd.Error) as error:
        return _fail(error_text(error))
    _show(parsed, report)
    for sentence in report.failures:
        _fail(sentence)
    return GATE_FAILS if report.failures else 0


def _evaluated(parsed: argparse.Namespace) -> LossReport:
    """With every file that was asked for. Raises CommandError and lossd.Error."""
    from lossd.evaluation.reports.html_report import write_html
    from lossd.evaluation.reports.plot import LossPlot
    from lossd.evaluation.reports.saved_run import check_comparable, read_run, save_run

    with StandardInput() as standard:
        question = _question(parsed, standard)
        other = read_run(parsed.against) if parsed.against else None
        if other is not None:
            check_comparable(question, other)
            if parsed.fail_if_worse is not None and other.row_sums is None:
                raise CommandError(f"--fail-if-worse needs the sums of rows that --save keeps; {other.file} has none")
        for path in filter(None, (parsed.save, parsed.html)):
            if not Path(path).parent.is_dir():
                raise CommandError(f"{path}: no folder {Path(path).parent}")
            if Path(path).is_dir():
                raise CommandError(f"{path}: is a folder; name the file to write")
        picture = LossPlot(parsed.plot) if parsed.plot else None
        report = _ask(parsed, question)
    if other is not None:
        report = _with_comparison(report, other)
    failures = (
        *above(report.greatest, parsed.fail_above),
        *worse(report.against, question.unit, parsed.fail_if_worse),
    )
    report = replace(report, failures=failures)
    if parsed.save:
        save_run(parsed.save, report)
    if parsed.html:
        write_html(parsed.html, report)
    if picture is not None:
        picture.draw(report)
    return report


def _show(parsed: argparse.Namespace, report: LossReport) -> None:
    """On stdout the result; on stderr what there is to say of it, and which files were written."""
    if parsed.json:
        from lossd.evaluation.reports.report import loss_document

        print(json.dumps(loss_document(report), allow_nan=False))
    else:
        from lossd.evaluation.reports.table import show_loss

        show_loss(report)
    for sentence in report.warnings:
        _say(f"warning: {sentence}", github.WARNING)
    for path in filter(None, (parsed.save, parsed.html, parsed.plot)):
        print(f"lossd eval: wrote {path}", file=sys.stderr)
    if github.summary_file():
        from lossd.evaluation.reports.job_summary import write_summary

        write_summary(github.summary_file(), report)


def _question(parsed: argparse.Namespace, standard: StandardInput) -> Question:
    texts = {role: getattr(parsed, role) for role in FILES if getattr(parsed, role) is not None}
    options = {name: getattr(parsed, name) for name in OPTIONS if getattr(parsed, name) is not None}
    draws = parsed.plot is not None or parsed.html is not None
    return Question(
        method=parsed.loss,
        sources=open_all(texts, parsed.header, parsed.separator, standard),
        reduction=parsed.reduction,
        options=options,
        worst=parsed.worst if parsed.worst is not None else WORST_DRAWN if draws else 0,
        plot=draws,
        per_class=parsed.per_class,
        row_sums=parsed.save is not None or parsed.against is not None,
    )


def _ask(parsed: argparse.Namespace, question: Question) -> LossReport:
    import lossd
    from lossd.command_line.credential_flags import given_credentials
    from lossd.evaluation.progress import progress
    from lossd.evaluation.run import run_evaluation, run_on_several
    from lossd.evaluation.several.servers import open_several

    question.check()
    try:
        client = lossd.Client(parsed.server, timeout=parsed.timeout, **given_credentials(parsed))
    except ImportError as error:
        raise CommandError(f"{error}; or use a running server: --server ADDRESS") from None
    with client, progress(question.input.items) as advance:
        if "," not in parsed.server:
            return run_evaluation(client, question, advance)
        with open_several(parsed.server, parsed.timeout, given_credentials(parsed)) as servers:
            return run_on_several(client, servers, question, advance, parsed.timeout)


def _with_comparison(report: LossReport, other: SavedRun) -> LossReport:
    from lossd.evaluation.comparing.comparison import compared
    from lossd.evaluation.reports.saved_run import differing_options

    assert isinstance(report.loss, float)
    summary = report.summary
    found = compared(report.loss, summary.weight_sum != summary.count, report.row_sums, other)
    differing = differing_options(report.question, other)
    return replace(report, against=found, warnings=(*report.warnings, *([differing] if differing else [])))


def _say(sentence: str, level: str) -> None:
    print(github.annotated(f"lossd eval: {sentence}", level), file=sys.stderr)


def _fail(sentence: str) -> int:
    _say(sentence, github.ERROR)
    return 1
