"""GPUs that CUDA shows this server, and which of them each worker has: worker i the i-th, and it sees no other.

Numbers are CUDA's own, which may differ from nvidia-smi's unless CUDA_DEVICE_ORDER is PCI_BUS_ID.
"""

from __future__ import annotations

from collections.abc import Mapping
from ctypes import CDLL, byref, c_int

VISIBLE = "CUDA_VISIBLE_DEVICES"
DRIVER = "libcuda.so.1"


def count() -> int:
    """How many GPUs there are for this process: 0 where there is no driver, or it finds none.

    Asked of the driver, which makes no context for that and needs no torch. CUDA reads VISIBLE once, now: who asks
    cannot take another GPU afterwards, only processes that it starts can.
    """
    try:
        driver = CDLL(DRIVER)
    except OSError:
        return 0
    found = c_int(0)
    if driver.cuInit(0) != 0 or driver.cuDeviceGetCount(byref(found)) != 0:
        return 0
    return found.value


def of_worker(environ: Mapping[str, str], index: int) -> str:
    """What VISIBLE has to be in worker `index`: the entry of its place, or its number where all GPUs are visible.

    Entries are numbers or UUIDs. Where there is none at its place it sees no GPU.
    """
    if VISIBLE not in environ:
        return str(index)
    entries = environ[VISIBLE].split(",")
    return entries[index].strip() if index < len(entries) else ""


def name_of_first(environ: Mapping[str, str]) -> str:
    """The GPU that a process uses, as VISIBLE calls it: "GPU 3", or a UUID; "" where nobody chose."""
    entry = environ.get(VISIBLE, "").partition(",")[0].strip()
    return f"GPU {entry}" if entry.isdecimal() else entry


def too_few(environ: Mapping[str, str], found: int, workers: int) -> str:
    """The sentence that refuses more workers than GPUs."""
    shown = f" ({VISIBLE}={environ[VISIBLE]})" if VISIBLE in environ else ""
    return (
        f"workers = {workers}, but CUDA shows {found} GPU{'s' * (found > 1)}{shown}, and each worker needs one of its"
        f" own: give --workers {found}, or --device cpu"
    )
