"""Machine memory: that of this machine, or of the container."""

from __future__ import annotations

import mmap
import os


def machine_bytes() -> int:
    """Memory of this machine, or of the container where that has less."""
    size = os.sysconf("SC_PHYS_PAGES") * mmap.PAGESIZE
    try:
        with open("/sys/fs/cgroup/memory.max", encoding="ascii") as file:
            limit = file.read().strip()
    except OSError:
        return size
    return min(size, int(limit)) if limit.isdigit() else size
