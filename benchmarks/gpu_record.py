"""The file of gpu.py's figures, and what they were taken on."""

from __future__ import annotations

import json
import platform
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
import triton


def machine(device: str) -> dict[str, Any]:
    """What the figures were taken on."""
    found = {"python": platform.python_version(), "torch": torch.__version__, "triton": triton.__version__}
    if device == "cuda":
        properties = torch.cuda.get_device_properties()
        found |= {
            "device": properties.name,
            "multiprocessors": properties.multi_processor_count,
            "l2_bytes": properties.L2_cache_size,
            "memory_bytes": properties.total_memory,
        }
    return found


def save(path: Path, device: str, found: Sequence[dict[str, Any]], part: str) -> None:
    """Writes what was found, over what the file had of this part."""
    document = json.loads(path.read_text()) if path.exists() else {"results": []}
    document["machine"] = machine(device)
    kept = [entry for entry in document["results"] if entry["part"] not in (part, "copy")]
    document["results"] = kept + [entry for entry in found if entry["part"] in (part, "copy")]
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(document, indent=1) + "\n")
