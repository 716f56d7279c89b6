"""Feeds code that reads what others send with inputs guided by its coverage: `make fuzz`, for FUZZ_SECONDS.

The first argument says what: `codec`, or `frames` of HTTP/2. What a run finds worth keeping lies in build/fuzz, where
the next one starts, as it does from the inputs that `make test` replays, tests/fuzz/corpus.txt and frames.txt. An input
that fails stops the run and is written to build/fuzz-failed; a line of its hexadecimal digits in the corpus makes it a
regression test.
"""

from __future__ import annotations

import sys
from importlib import import_module
from pathlib import Path

import atheris

ROOT = Path(__file__).parent.parent
# What is guided, and what feeds it.
TARGETS = {
    "codec": ("lossd.wire", "tests.fuzz.inputs"),
    "frames": ("lossd_server.front.http2", "tests.fuzz.frames"),
}


def main() -> None:
    target = sys.argv.pop(1)
    instrumented, feeding = TARGETS[target]
    with atheris.instrument_imports(include=[instrumented]):
        fuzzed = import_module(feeding)
    found, failed = ROOT / "build" / "fuzz" / target, ROOT / "build" / "fuzz-failed" / target
    for folder in (found, failed):
        folder.mkdir(parents=True, exist_ok=True)
    for number, data in enumerate(fuzzed.kept()):
        (found / f"kept-{number}").write_bytes(data)
    atheris.Setup([*sys.argv, f"-artifact_prefix={failed}/", "-max_len=400", str(found)], fuzzed.run)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
