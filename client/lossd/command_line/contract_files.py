"""The contract's files, for a compiler of any language: lossd's protos, and google.rpc's that errors are made of."""

from __future__ import annotations

from collections.abc import Iterator
from importlib import resources
from importlib.resources.abc import Traversable
from pathlib import Path

# What an error's details are decoded with. They belong to googleapis-common-protos, which every lossd has beside it.
_RPC_FILES = ("status.proto", "error_details.proto")


def contract_files() -> Iterator[tuple[Path, Traversable]]:
    """Each file: its path below the folder that a compiler is given with -I, and where it lies in this installation."""
    for file in sorted(resources.files("lossd.v1").iterdir(), key=lambda file: file.name):
        if file.name.endswith(".proto"):
            yield Path("lossd/v1", file.name), file
    for name in _RPC_FILES:
        yield Path("google/rpc", name), resources.files("google.rpc") / name


def write_contract(folder: Path) -> list[Path]:
    """Writes every file below `folder`, which is made if it is not there. Returns the paths, as written."""
    written = []
    for path, file in contract_files():
        target = folder / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(file.read_bytes())
        written.append(target)
    return written
