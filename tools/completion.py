"""Generates the scripts by which shells complete `lossd`; `--check` says whether what is committed is still that.

By shtab, from the parsers of all commands. The scripts are files of the package, so that completing starts no Python.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

import shtab

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT / "client"), str(ROOT / "server")]

from lossd import cli  # noqa: E402  # it is found by the lines above
from lossd.bench import arguments as bench  # noqa: E402
from lossd.command_line import completion_command, identity_commands, reason_command  # noqa: E402
from lossd.command_line.completion_command import FOLDER, SHELLS  # noqa: E402
from lossd.evaluation import arguments as evaluation  # noqa: E402
from lossd.evaluation.question import LOSSES  # noqa: E402
from lossd.reasons.table import known_reasons  # noqa: E402
from lossd_server import warmup  # noqa: E402
from lossd_server.config import flags  # noqa: E402

# What completes an argument, by what its help calls it.
COMPLETED = {"FILE": shtab.FILE, "DIR": shtab.DIRECTORY, "DIRECTORY": shtab.DIRECTORY, "FOLDER": shtab.DIRECTORY}


def whole_parser() -> argparse.ArgumentParser:
    """Of `lossd` with the parsers of its commands, each of which makes its own when it runs."""
    parser = cli._parser()
    (commands,) = (action for action in parser._actions if isinstance(action, argparse._SubParsersAction))
    choices: dict[str, Any] = commands.choices
    choices |= {
        "serve": flags._parser(),
        "warmup": warmup.warmup_parser(),
        "eval": evaluation._parser(),
        "bench": bench._parser(),
        "certificates": identity_commands.certificates_parser(),
        "token": identity_commands.token_parser(),
        "errors": reason_command.errors_parser(),
        "completion": completion_command.completion_parser(),
    }
    for one in choices.values():
        for action in one._actions:
            if isinstance(action.metavar, str) and action.metavar in COMPLETED:
                setattr(action, "complete", COMPLETED[action.metavar])  # noqa: B010  # shtab's own attribute
                # Of several files the first: after it a shell would complete nothing but files.
                action.nargs = None if action.nargs == "+" else action.nargs
            elif action.option_strings and action.nargs == "?":
                # What it may be given has no completion: what follows is the next option.
                action.nargs = 0
            elif action.metavar == "LOSS":
                action.choices = [*LOSSES]
            elif action.metavar == "REASON":
                action.choices = sorted(known_reasons())
    return parser


def main() -> int:
    given = argparse.ArgumentParser(description=__doc__)
    given.add_argument("--check", action="store_true")
    check = given.parse_args().check
    stale = []
    for shell, name in SHELLS.items():
        path = FOLDER / name
        text = shtab.complete(whole_parser(), shell)
        if check and (not path.is_file() or path.read_text(encoding="utf-8") != text):
            stale.append(path.relative_to(ROOT).as_posix())
        if not check:
            path.parent.mkdir(exist_ok=True)
            path.write_text(text, encoding="utf-8")
    if stale:
        print(f"stale: {', '.join(stale)}; run make completion", file=sys.stderr)
    return bool(stale)


if __name__ == "__main__":
    sys.exit(main())
