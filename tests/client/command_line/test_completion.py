"""`lossd completion`: what bash and zsh complete."""

from __future__ import annotations

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


@pytest.fixture
def bash() -> str:
    found = shutil.which("bash")
    if found is None:
        pytest.skip("no bash here")
    return found


@pytest.mark.parametrize("shell", SHELLS)
def test_the_script_is_printed(shell: str, capsys: pytest.CaptureFixture[str]) -> None:
    """For `eval`, or for a file."""
    assert cli.main(["completion", shell]) == 0
    assert capsys.readouterr().out == (FOLDER / SHELLS[shell]).read_text(encoding="utf-8")


def test_another_shell_is_wrong_usage(capsys: pytest.CaptureFixture[str]) -> None:
    """Exit status 2; those that there are are named."""
    with pytest.raises(SystemExit) as caught:
        cli.main(["completion", "csh"])

    assert caught.value.code == 2
    assert "bash" in capsys.readouterr().err


@pytest.mark.parametrize(
    "words, completed",
    [
        ("ev", ["eval"]),
        ("comp", ["completion"]),
        ("eval bce", ["bce", "bce_with_logits"]),
        ("eval entropy --ag", ["--against"]),
        ("eval entropy --input part", ["part-0.csv", "part-1.csv"]),
        ("eval entropy --input part-0.csv --wo", ["--worst"]),
        ("eval entropy --reduction b", ["batchmean"]),
        ("serve --worke", ["--workers"]),
        ("errors CLASS_OUT", ["CLASS_OUT_OF_RANGE"]),
        ("info --js", ["--json"]),
        ("proto fol", ["folder"]),
    ],
)
def test_bash_completes(words: str, completed: list[str], bash: str, tmp_path: Path) -> None:
    """Commands, options, what an option may be, files and folders."""
    for name in ("part-0.csv", "part-1.csv", "other.csv"):
        (tmp_path / name).touch()
    (tmp_path / "folder").mkdir()

    command = [bash, "--norc", "-c", PROGRAM, "bash", str(FOLDER / SHELLS["bash"]), "lossd", *words.split(" ")]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)

    assert sorted(done.stdout.split()) == completed, done.stderr


def test_zsh_takes_the_script() -> None:
    """Where there is a zsh."""
    zsh = shutil.which("zsh")
    if zsh is None:
        pytest.skip("no zsh here")
    assert subprocess.run([zsh, "-n", str(FOLDER / SHELLS["zsh"])], check=False).returncode == 0


def test_the_scripts_are_those_of_the_parsers() -> None:
    """Of every command; `make completion` writes them anew."""
    pytest.importorskip("shtab")
    done = subprocess.run(
        [sys.executable, str(ROOT / "tools/completion.py"), "--check"], capture_output=True, text=True
    )
    assert (done.returncode, done.stderr) == (0, "")
