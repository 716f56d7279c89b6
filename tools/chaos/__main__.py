"""`python -m chaos`: see docs/faults.md."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from chaos.run import SERVERS, Plan, run

# With each operation checked by its bytes; a table with operations of 16 MB is 100 MB in each client process.
MOST_BYTES = 16_000_000
# Beyond these seconds a run may start a server without any kernel, which takes a minute of a processor.
COMPILES_S = 240.0


def main() -> int:
    parser = argparse.ArgumentParser(description="Calls servers in every way while everything fails, and compares.")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--seconds", type=float, default=60.0, help="of load with faults")
    parser.add_argument("--operations", type=int, default=0, help="that are checked at least, in ten times the seconds")
    parser.add_argument("--most-bytes", type=int, default=MOST_BYTES, help="of an operation's input")
    parser.add_argument("--servers", default=",".join(SERVERS), help="some of these")
    parser.add_argument("--clients", type=int, default=2, help="client processes, beside the one that is killed")
    parser.add_argument("--keep", type=Path, default=Path("build/chaos"), help="where a history is kept")
    given = parser.parse_args()
    return run(
        Plan(
            seed=given.seed,
            seconds=given.seconds,
            operations=given.operations,
            most_s=10 * given.seconds if given.operations else given.seconds,
            most_bytes=given.most_bytes,
            servers=tuple(given.servers.split(",")),
            clients=given.clients,
            compiles=given.seconds >= COMPILES_S,
            keep=given.keep,
        )
    )


if __name__ == "__main__":
    sys.exit(main())
