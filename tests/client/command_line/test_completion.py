"""`lossd completion`: what bash, zsh and fish complete."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from lossd import cli
from lossd.command_line.completion_command import FOLDER, SHELLS

ROOT = Path(__file__).resolve().parents[3]
# Calls what `complete` named, as bash does when somebody presses TAB after the words.
PROGRAM = """\
source "$1"; shift
name=$(complete -p lossd); name=${name##*-F }; name=${name%% *}
COMP_WORDS=("$@"); COMP_CWORD=$((${#COMP_WORDS[@]} - 1)); COMP_LINE="$*"; COMP_POINT=${#COMP_LINE}
"$name" lossd "${COMP_WORDS[-1]}" "${COMP_WORDS[-2]}" 2>/dev/null
printf '%s\\n' "${COMPREPLY[@]}"
"""
# The same for fish, which prints what it would show, each with its description behind a tab.
FISH_PROGRAM = 'source $SCRIPT; complete --do-complete "$LINE"'
COMPLETED = [
    ("ev", ["eval"]),
    ("comp", ["completion"]),
    ("eval bce", ["bce", "bce_with_logits"]),
    ("eval entropy --ag", ["--against"]),
    ("eval entropy --input part", ["part-0.csv", "part-1.csv"]),
    ("eval entropy --input part-0.csv --wo", ["--worst"]),
    ("eval entropy --against part-0.csv --fail-if-worse --wo", ["--worst"]),
    ("eval entropy --reduction b", ["batchmean"]),
    ("serve --worke", ["--workers"]),
    ("errors CLASS_OUT", ["CLASS_OUT_OF_RANGE"]),
    ("completion fi", ["fish"]),
    ("info --js", ["--json"]),
    ("proto fol", ["folder"]),
]


def shell(name: str) -> str:
    """Its program."""
    found = shutil.which(name)
    if found is None:
        pytest.skip(f"no {name} here")
    return found


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """With files and a folder to complete."""
    for name in ("part-0.csv", "part-1.csv", "other.csv"):
        (tmp_path / name).touch()
    (tmp_path / "folder").mkdir()
    return tmp_path


@pytest.mark.parametrize("name", SHELLS)
def test_the_script_is_printed(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    """For `eval`, or for a file."""
    assert cli.main(["completion", name]) == 0
    assert capsys.readouterr().out == (FOLDER / SHELLS[name]).read_text(encoding="utf-8")


def test_another_shell_is_wrong_usage(capsys: pytest.CaptureFixture[str]) -> None:
    """Exit status 2; those that there are are named."""
    with pytest.raises(SystemExit) as caught:
        cli.main(["completion", "csh"])

    assert caught.value.code == 2
    assert "bash" in capsys.readouterr().err


@pytest.mark.parametrize("words, completed", COMPLETED)
def test_bash_completes(words: str, completed: list[str], folder: Path) -> None:
    """Commands, options, what an option may be, files and folders."""
    command = [shell("bash"), "--norc", "-c", PROGRAM, "bash", str(FOLDER / SHELLS["bash"]), "lossd", *words.split(" ")]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True)

    assert sorted(done.stdout.split()) == completed, done.stderr


@pytest.mark.parametrize("words, completed", COMPLETED)
def test_fish_completes(
    words: str, completed: list[str], folder: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """The same, where there is a fish; a folder has a slash behind it."""
    environment = {
        "PATH": os.environ["PATH"],
        "HOME": str(tmp_path_factory.mktemp("home")),
        "SCRIPT": str(FOLDER / SHELLS["fish"]),
        "LINE": f"lossd {words}",
    }
    command = [shell("fish"), "--no-config", "-c", FISH_PROGRAM]
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)

    assert done.stderr == ""
    assert sorted(line.partition("\t")[0].rstrip("/") for line in done.stdout.splitlines()) == completed


def test_zsh_takes_the_script() -> None:
    """Where there is a zsh."""
    assert subprocess.run([shell("zsh"), "-n", str(FOLDER / SHELLS["zsh"])], check=False).returncode == 0


def test_the_scripts_are_those_of_the_parsers() -> None:
    """Of every command; `make completion` writes them anew."""
    pytest.importorskip("shtab")
    done = subprocess.run(
        [sys.executable, str(ROOT / "tools/completion.py"), "--check"], capture_output=True, text=True
    )
    assert (done.returncode, done.stderr) == (0, "")
