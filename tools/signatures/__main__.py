"""Writes the clients' methods; `--check` says whether what is committed is what would be written."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from signatures.render import render

CLIENT = Path(__file__).resolve().parent.parent.parent / "client/lossd"
FILES = {CLIENT / "methods.py": False, CLIENT / "aio_methods.py": True}


def main() -> int:
    parser = argparse.ArgumentParser(prog="signatures", description="Write the clients' methods from their table.")
    parser.add_argument("--check", action="store_true", help="write nothing; fail where the committed code is stale")
    check = parser.parse_args().check
    stale = [path for path, awaited in FILES.items() if not path.exists() or path.read_text("utf-8") != render(awaited)]
    if check and stale:
        print(*(f"{path.name}: out of date" for path in stale), "run: make signatures", sep="\n", file=sys.stderr)
        return 1
    for path in stale:
        path.write_text(render(FILES[path]), encoding="utf-8")
    print("the methods are fresh" if check else f"wrote client/lossd; changed: {len(stale)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
