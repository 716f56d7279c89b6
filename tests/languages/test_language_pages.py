"""Pages of languages whose tests do not run their page: every command and program of the page works as it says."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.languages.languages import LANGUAGES, ROOT, Language
from tests.server.server_process import environment

PAGES = ROOT / "docs/languages"
# A program is told by the line before its block, commands are bash, and what they print last is text.
BLOCK = re.compile(r"(?:^`(?P<file>[\w.]+)`:?\n\n?)?^```(?P<kind>\w*)\n(?P<body>.*?)^```$", re.MULTILINE | re.DOTALL)
INSTALLED = re.compile(r"^apt-get install[^\n]*?((?: [a-z0-9+.-]+)+)$", re.MULTILINE)
ADDRESS = "127.0.0.1:50051"
LONGEST_S = 600.0
MOST_LINES = 20


@dataclass(frozen=True)
class Page:
    """programs: by their file's name. commands: what is typed, without installing. output: what is printed then."""

    programs: dict[str, str]
    commands: str
    packages: set[str]
    output: str


def page_of(language: Language) -> Page:
    text = (PAGES / f"{language.folder}.md").read_text("utf-8")
    programs, commands, output = dict[str, str](), "", ""
    for block in BLOCK.finditer(text):
        if block["file"]:
            programs[block["file"]] = block["body"]
        elif block["kind"] == "bash":
            commands += block["body"]
        elif block["kind"] == "text":
            output += block["body"]
    continued = commands.replace("\\\n", "")
    packages = {one for found in INSTALLED.findall(continued) for one in found.split() if not one.startswith("-")}
    run = [line for line in continued.splitlines() if not line.startswith(("apt-get", "pip install", "lossd serve"))]
    return Page(programs, "\n".join(run), packages, output)


OURS = [one for one in LANGUAGES if one.folder in ("cpp", "java", "ruby")]


@pytest.mark.timeout(900)
@pytest.mark.parametrize("language", OURS, ids=lambda one: one.folder)
def test_language_page(language: Language, every: bool, address: str, tmp_path: Path) -> None:
    """In an empty folder, its commands build and run its program, which prints what the page says."""
    language.require(every)
    page = page_of(language)
    for name, program in page.programs.items():
        (tmp_path / name).write_text(program.replace(ADDRESS, address), "utf-8")
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", page.commands.replace(ADDRESS, address)],
        cwd=tmp_path,
        env={**environment(), "PATH": path},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=LONGEST_S,
        check=False,
    )

    assert done.returncode == 0, done.stdout
    assert done.stdout.endswith(page.output), done.stdout


@pytest.mark.parametrize("language", OURS, ids=lambda one: one.folder)
def test_language_page_is_short(language: Language) -> None:
    """Its program has at most 20 lines, and Debian's packages that it names are those that tests install."""
    page = page_of(language)
    installed = (ROOT / "languages/packages.txt").read_text() + (ROOT / "tests/interop/packages.txt").read_text()

    assert page.output
    assert sum(program.count("\n") for program in page.programs.values()) in range(1, MOST_LINES + 1)
    assert page.packages
    assert page.packages <= set(installed.split())
