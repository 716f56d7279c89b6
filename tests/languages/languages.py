"""The languages of `languages/`: what each needs to be built, and how its tests are run."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
FOLDER, BUILT, VECTORS = ROOT / "languages", ROOT / "build/languages", ROOT / "tests/vectors"
SOURCES = {".cc", ".go", ".h", ".java", ".mts", ".rb", ".ts"}
# What tells a test's file from those that a user reads: its name, or its folder's.
TESTS = re.compile(
    r"(^|[/_.])(test|tests|vectors|stand_ins)(\.|/|$)|(Test|Vectors|Refusing|StandIns)\.java$|_test\.go$|bench"
)
GENERATED = re.compile(r"\.pb\.go$")
COUNTS = re.compile(r"^(\d+) passed, (\d+) failed$")
# The first build on a machine compiles what protoc makes, or fetches npm's packages.
LONGEST_S = 900.0


@dataclass(frozen=True)
class Language:
    """folder: its name in languages/. tools: programs without which it cannot be built."""

    folder: str
    tools: tuple[str, ...]

    @property
    def path(self) -> Path:
        return FOLDER / self.folder

    def require(self, every: bool) -> None:
        """Skips a test of a language that is not here, or cannot be built here; fails it where every one must be."""
        missing = [] if (self.path / "Makefile").exists() else [f"languages/{self.folder}"]
        missing += [tool for tool in self.tools if shutil.which(tool) is None]
        if missing:
            (pytest.fail if every else pytest.skip)(f"{self.folder}: {', '.join(missing)} is not here")

    def lines(self) -> int:
        """Of the library or the example, without its tests."""
        files = [path for path in self.path.rglob("*") if path.suffix in SOURCES]
        names = {path: path.relative_to(self.path).as_posix() for path in files}
        kept = [path for path, name in names.items() if not TESTS.search(name) and not GENERATED.search(name)]
        return sum(path.read_text("utf-8").count("\n") for path in kept)

    def make(
        self, target: str, environment: Mapping[str, str] | None = None, **variables: str
    ) -> subprocess.CompletedProcess[str]:
        """`make` as languages/X/Makefile has it, from the project's root. environment: beside this process's."""
        own = {"OUT": str(BUILT / self.folder), "VECTORS": str(VECTORS), **variables}
        return subprocess.run(
            [
                "make",
                "--no-print-directory",
                "--jobs=2",
                "-C",
                str(self.path),
                target,
                *(f"{k}={v}" for k, v in own.items()),
            ],
            cwd=ROOT,
            env={**os.environ, "MAKEFLAGS": "", **(environment or {})},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=LONGEST_S,
            check=False,
        )


LANGUAGES = (
    Language("node", ("node", "npm")),
    Language("go", ("go", "protoc", "protoc-gen-go", "protoc-gen-go-grpc")),
    Language("cpp", ("g++", "protoc", "grpc_cpp_plugin", "pkg-config")),
    Language("java", ("javac", "protoc", "grpc_java_plugin")),
    Language("ruby", ("ruby", "protoc", "grpc_ruby_plugin")),
)


@dataclass(frozen=True)
class Replayed:
    """What a language's `make test` counted. vectors: in the files; each is replayed in one way or more."""

    language: Language
    passed: int
    failed: int
    build_s: float
    test_s: float


def replay(language: Language, proto: Path, address: str) -> tuple[Replayed, str]:
    """Builds it and runs its tests; the counts of the last line, and all that was printed."""
    start = time.monotonic()
    built = language.make("build", PROTO=str(proto))
    ready = time.monotonic()
    if built.returncode:
        return Replayed(language, 0, 1, ready - start, 0.0), built.stdout
    tested = language.make("test", PROTO=str(proto), ADDRESS=address)
    end = time.monotonic()
    printed = tested.stdout.rstrip()
    lines = [line for line in printed.splitlines() if not line.startswith("make: ")]
    counts = COUNTS.match(lines[-1]) if lines else None
    passed, failed = (int(counts[1]), int(counts[2])) if counts else (0, 1)
    return Replayed(language, passed, failed or int(tested.returncode != 0), ready - start, end - ready), printed
