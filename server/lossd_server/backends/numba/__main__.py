"""`python -m lossd_server.backends.numba float64`: compiles the kernels of one type into the cache.

It ends when its standard input does: with the server that started it.
"""

from __future__ import annotations

import os
import sys
import threading

from lossd_server.backends.numba.backend import NumbaBackend
from lossd_server.backends.numba.warmup import rehearsal
from lossd_server.jobs.job import Launch


def _end_with_starter() -> None:
    if not os.read(0, 1):
        os._exit(1)


threading.Thread(target=_end_with_starter, daemon=True).start()
backend = NumbaBackend(1)
for job in rehearsal(sys.argv[1]):
    backend.run([Launch(job, 1.0)])
