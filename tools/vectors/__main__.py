"""Writes tests/vectors; `--check` says whether what is committed is what would be written."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from vectors.files import files

FOLDER = Path(__file__).resolve().parents[2] / "tests/vectors"


def main() -> int:
    parser = argparse.ArgumentParser(prog="vectors", description="Write test vectors for clients of any language.")
    parser.add_argument("--check", action="store_true", help="write nothing; fail where the committed files are stale")
    check = parser.parse_args().check
    made = files()
    committed = {path.name: path.read_text("utf-8") for path in FOLDER.glob("*.json")}
    stale = sorted(name for name in made.keys() | committed.keys() if made.get(name) != committed.get(name))
    if check and stale:
        print(*(f"tests/vectors/{name}: out of date" for name in stale), "run: make vectors", sep="\n", file=sys.stderr)
        return 1
    for name in stale:
        if name in made:
            (FOLDER / name).write_text(made[name], encoding="utf-8")
        else:
            (FOLDER / name).unlink()
    print("the vectors are fresh" if check else f"wrote tests/vectors; changed: {len(stale)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
