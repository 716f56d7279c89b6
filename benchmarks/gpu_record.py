"""The file of gpu.py's figures, and what they were taken on.

python benchmarks/gpu_record.py        prints the second, where there is a GPU
"""

from __future__ import annotations

import json
import platform
import re
import sys
from collections.abc import Sequence
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch
import triton

# Distributions of the peers, where they are installed.
PEERS = ("liger-kernel", "quack-kernels")
DRIVER = Path("/proc/driver/nvidia/version")


def machine(device: str) -> dict[str, Any]:
    """What the figures were taken on."""
    found = {"python": platform.python_version(), "torch": torch.__version__, "triton": triton.__version__}
    for peer in PEERS:
        with suppress(PackageNotFoundError):
            found[peer] = version(peer)
    if device == "cuda":
        properties = torch.cuda.get_device_properties()
        found |= {
            "cuda": torch.version.cuda,
            "driver": driver(),
            "device": properties.name,
            "multiprocessors": properties.multi_processor_count,
            "l2_bytes": properties.L2_cache_size,
            "memory_bytes": properties.total_memory,
        }
    return found


def driver() -> str:
    """The version of NVIDIA's driver, by the kernel's module; "unknown" where that does not tell."""
    try:
        found = re.search(r"\d+\.\d+(\.\d+)?", DRIVER.read_text())
    except OSError:
        found = None
    return found[0] if found else "unknown"


def save(path: Path, device: str, found: Sequence[dict[str, Any]], part: str) -> None:
    """Writes what was found, over what the file had of this part."""
    document = json.loads(path.read_text()) if path.exists() else {"results": []}
    document["machine"] = machine(device)
    kept = [entry for entry in document["results"] if entry["part"] not in (part, "copy")]
    document["results"] = kept + [entry for entry in found if entry["part"] in (part, "copy")]
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(document, indent=1) + "\n")


if __name__ == "__main__":
    if not torch.cuda.is_available():
        sys.exit("there is no CUDA device that torch can use")
    print(json.dumps(machine("cuda"), indent=1))
