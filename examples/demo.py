"""Losses of real data, computed by a server: what `make demo` runs.

    python examples/demo.py                              # starts a server, and stops it at the end
    python examples/demo.py --server 127.0.0.1:50051     # uses one that runs

A server with TLS and tokens is reached by LOSSD_CA and LOSSD_TOKEN (or LOSSD_TOKEN_FILE), as any client reaches it.
Exit status 0 when every number is right.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

import burst
import lossd
from server_process import ServerProcess

HERE = Path(__file__).parent
TOLERANCE = 1e-6
# What each loss is computed of: arrays of digits.npz (make_digits.py describes them).
EVALUATIONS = {
    "cross_entropy": ("logits", "labels"),
    "bce": ("eight_probabilities", "is_eight"),
    "bce_with_logits": ("eight_logits", "is_eight"),
    "entropy": ("probabilities",),
}


def show_digits(address: str) -> bool:
    """Evaluates the digits, prints each loss beside its reference; whether all agree."""
    with np.load(HERE / "digits.npz") as stored:
        digits: dict[str, npt.NDArray[Any]] = dict(stored)
    reference = json.loads((HERE / "digits.json").read_text())
    right = np.mean(digits["logits"].argmax(axis=1) == digits["labels"])
    print(f"1. What {len(digits['labels']):,} handwritten digits cost\n")
    print(f"   A logistic regression read these images and got {right:.1%} of them right. Its predictions go to")
    print("   the server; losses and gradients come back. The reference was computed in 50 digits.\n")
    print("   loss             of            quantity           server           reference        rel. difference")
    agree = True
    with lossd.Client(address) as client:
        for method, names in EVALUATIONS.items():
            result = getattr(client, method)(*(digits[name] for name in names), grad=True)
            shape = "×".join(map(str, digits[names[0]].shape))
            values = {"loss": float(result), "gradient_norm": float(np.linalg.norm(result.grad.astype(np.float64)))}
            for quantity, value in values.items():
                expected = float(reference[method][quantity])
                difference = abs(value - expected) / abs(expected)
                agree &= difference <= TOLERANCE
                first = quantity == "loss"
                print(
                    f"   {method if first else '':<17}{shape if first else '':<14}{quantity.replace('_', ' '):<16}"
                    f"{value:>14.10f}   {expected:>14.10f}          {difference:.1e}"
                    f"{'' if difference <= TOLERANCE else '   WRONG'}"
                )
    return bool(agree)


def show(address: str) -> bool:
    """Both parts of the demo against the server at `address`; whether every number is right."""
    agree = show_digits(address)
    print(f"\n2. {burst.REQUESTS} requests at once: four losses, 1 to 64 rows, 2 to 1,000 classes, with gradients\n")
    agree &= burst.run(address)
    return agree


def serve_and_show() -> bool:
    print("Starting `lossd serve` on a free port (the very first start compiles its kernels) ...")
    start = time.perf_counter()
    with ServerProcess(report=lambda line: print(f"   {line}", flush=True)) as server:
        print(f"   listening on {server.address} after {time.perf_counter() - start:.1f} s\n")
        agree = show(server.address)
        code = server.stop()
    print(f"\nStopped the server with SIGTERM: it ended with exit code {code}.")
    return agree and code == 0


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--server", metavar="ADDRESS", help="use this server instead of starting one")
    server = parser.parse_args().server
    try:
        agree = show(server) if server else serve_and_show()
    except (lossd.Error, RuntimeError) as error:
        print(f"The server could not be used: {error}", file=sys.stderr)
        return 1
    print("Every number is right." if agree else "Something is wrong: see above.")
    return 0 if agree else 1


if __name__ == "__main__":
    sys.exit(main())
