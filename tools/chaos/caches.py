"""Kernel caches in which something is wrong: copies of the good one."""

from __future__ import annotations

import os
import random
import shutil
import subprocess
from pathlib import Path

# Kernels of a damaged cache that have to be compiled again at that start.
DAMAGED_FILES = 2


class Caches:
    """compiles: whether one start may find no kernel at all, which takes minutes of a processor."""

    def __init__(self, folder: Path, compiles: bool) -> None:
        self._folder = folder
        self._compiles = compiles
        self._full: Path | None = None
        home = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
        self._good = Path(os.environ.get("LOSSD_CACHE_DIR") or f"{home}/lossd")

    def draw(self, rng: random.Random) -> tuple[str, str]:
        """The kind of a fault, and the folder that has it."""
        kind = rng.choice(("cache damaged", "cache full", *(("cache unwritable",) if self._compiles else ())))
        if kind == "cache unwritable":
            self._compiles = False
            path = self._folder / "no-folder"
            path.write_text("a file")
            return kind, str(path)
        copy = self._folder / "cache"
        if kind == "cache full":
            full = self._mounted()
            if full is None:
                kind = "cache damaged"
            else:
                copy = full
        self._fill(copy, rng)
        if kind == "cache full":
            self._exhaust(copy)
        return kind, str(copy)

    def close(self) -> None:
        if self._full is not None:
            subprocess.run(["umount", "--lazy", self._full], check=False, stderr=subprocess.DEVNULL)

    def _fill(self, copy: Path, rng: random.Random) -> None:
        """The good one, but that a few of its files are cut short."""
        for one in copy.iterdir() if copy.exists() else ():
            shutil.rmtree(one) if one.is_dir() else one.unlink()
        shutil.copytree(self._good, copy, dirs_exist_ok=True)
        files = sorted(copy.rglob("*.nbc"))
        for file in rng.sample(files, min(DAMAGED_FILES, len(files))):
            with file.open("r+b") as opened:
                opened.truncate(rng.randrange(file.stat().st_size + 1))

    def _mounted(self) -> Path | None:
        """A file system of its own in memory; None where that is not permitted."""
        if self._full is None:
            size = sum(one.stat().st_size for one in self._good.rglob("*") if one.is_file())
            path = self._folder / "full"
            path.mkdir()
            done = subprocess.run(
                ["mount", "-t", "tmpfs", "-o", f"size={2 * size + (8 << 20)}", "lossd-chaos", path],
                check=False,
                capture_output=True,
            )
            if done.returncode:
                return None
            self._full = path
        return self._full

    @staticmethod
    def _exhaust(folder: Path) -> None:
        """Leaves not a byte."""
        try:
            with (folder / "filler").open("wb", buffering=0) as file:
                while file.write(bytes(1 << 20)):
                    pass
        except OSError:
            return
