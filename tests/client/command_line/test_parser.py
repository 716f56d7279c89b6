"""The numbers that the commands' flags take: each refused in three lines of usage, or understood."""

from __future__ import annotations

import argparse
from collections.abc import Iterator

import pytest

from lossd import cli
from lossd.bench import arguments as bench_arguments
from lossd.command_line.parser import CommandParser, number
from lossd.evaluation import arguments as eval_arguments

EVAL = ["eval", "cross_entropy", "--input", "x.npy", "--target", "y.npy"]
COMMANDS: dict[str, tuple[list[str], argparse.ArgumentParser]] = {
    "health": (["health"], cli._parser()),
    "info": (["info"], cli._parser()),
    "eval": (EVAL, eval_arguments._parser()),
    "bench": (["bench"], bench_arguments._parser()),
}
# No flag takes these.
NEVER = ["abc", "", "nan", "-nan", "0x10", "1,,2", "--", "x" * 5000]
SECONDS = ["-1", "0", "-0.0", "inf", "-inf", "1e400", "1e-400", "1000001", "1e300"]
# Flags, and what else each does not take.
NUMBERS: dict[tuple[str, str], list[str]] = {
    ("health", "--timeout"): SECONDS,
    ("info", "--timeout"): SECONDS,
    ("eval", "--timeout"): SECONDS,
    ("eval", "--ignore-index"): ["1.5", "1e3", "inf", str(2**63), str(-(2**63) - 1)],
    ("eval", "--dim"): ["1.5", "inf", str(2**63)],
    ("eval", "--label-smoothing"): ["-1e-9", "1.0001", "inf", "-inf"],
    ("eval", "--base"): ["1", "1.0", "0", "-2", "inf", "-inf"],
    ("eval", "--worst"): ["-1", "1.5", "inf"],
    ("eval", "--fail-above"): [],
    ("bench", "--timeout"): SECONDS,
    ("bench", "--window-s"): SECONDS,
    ("bench", "--max-s"): [*SECONDS, "0.5"],  # below one window
    ("bench", "--seed"): ["-1", "1.5", "inf"],
    ("bench", "--concurrency"): ["0", "-1", "1.5", "inf", "65537", "1,0", str(10**19)],
    ("bench", "--rate"): ["0", "-1", "inf", "5,-inf"],
    ("bench", "--search-p99-ms"): ["0", "-1", "inf"],
    ("bench", "--shape"): ["0", "-1", "8x0", "8x", "1.5", "inf", "100000x100000", str(10**19)],
}
REFUSED = [(command, flag, text) for (command, flag), texts in NUMBERS.items() for text in [*NEVER, *texts]]


def flags(parser: argparse.ArgumentParser) -> Iterator[str]:
    """Those that take a value which is not one of some words."""
    for action in parser._actions:
        if action.type is not None and not isinstance(action.type, argparse.FileType) and action.option_strings:
            yield action.option_strings[0]


def test_every_numeric_flag_is_here() -> None:
    """A new one fails here until it is in the table."""
    health, info = (cli._parser()._subparsers._group_actions[0].choices[name] for name in ("health", "info"))  # type: ignore[union-attr, index]
    found = {("health", flag) for flag in flags(health)} | {("info", flag) for flag in flags(info)}
    for command in ("eval", "bench"):
        found |= {(command, flag) for flag in flags(COMMANDS[command][1])}

    # Of what is no number --fail-if-worse, which needs none, says something else: tests/client/evaluation has it.
    others = {("bench", "--loss"), ("eval", "--separator"), ("eval", "--fail-if-worse")}
    assert found - others == set(NUMBERS)


@pytest.mark.parametrize("command, flag, text", REFUSED, ids=[f"{c} {f} {t[:20]}" for c, f, t in REFUSED])
def test_a_number_that_makes_no_sense_is_wrong_usage(
    command: str, flag: str, text: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Exit status 2 and three lines, however the number is wrong and however long it is; no file is opened."""
    with pytest.raises(SystemExit) as caught:
        cli.main([*COMMANDS[command][0], flag, text])

    usage, hint, mistake = capsys.readouterr().err.splitlines()
    assert caught.value.code == 2
    assert usage.startswith(f"usage: lossd {command}")
    assert hint == f"       lossd {command} --help explains every option"
    assert mistake.startswith(f"lossd {command}: error: ")
    assert flag in mistake
    assert len(mistake) < 240


@pytest.mark.parametrize("text", ["-1", "-1e-3", "-.5", "-1.", "-inf", "-Infinity", "-1e400", "1e-3", "inf"])
def test_negative_numbers_are_numbers(text: str) -> None:
    """argparse takes all but the plainest for options."""
    parser = CommandParser()
    parser.add_argument("--fail-above", type=number)

    assert parser.parse_args(["--fail-above", text]).fail_above == float(text)
    assert eval_arguments.eval_arguments([*EVAL[1:], "--fail-above", text]).fail_above == float(text)
