"""Feeds the codec with inputs guided by its coverage: `make fuzz`, for FUZZ_SECONDS.

What a run finds worth keeping lies in build/fuzz, where the next one starts, as it does from the inputs that
`make test` replays, tests/fuzz/corpus.txt. An input on which the codec and the generated classes differ stops the run
and is written to build/fuzz-failed; a line of its hexadecimal digits in corpus.txt makes it a regression test.
"""

from __future__ import annotations

import sys
from pathlib import Path

import atheris

with atheris.instrument_imports(include=["lossd.wire"]):
    import lossd.wire  # noqa: F401  # what is guided: nothing else is instrumented

from tests.fuzz.inputs import kept, run

ROOT = Path(__file__).parent.parent


def main() -> None:
    found, failed = ROOT / "build" / "fuzz", ROOT / "build" / "fuzz-failed"
    for folder in (found, failed):
        folder.mkdir(parents=True, exist_ok=True)
    for number, data in enumerate(kept()):
        (found / f"kept-{number}").write_bytes(data)
    atheris.Setup([*sys.argv, f"-artifact_prefix={failed}/", "-max_len=400", str(found)], run)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
