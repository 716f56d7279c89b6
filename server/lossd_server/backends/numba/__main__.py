"""`python -m lossd_server.backends.numba float64`: compiles the kernels of one type into the cache."""

from __future__ import annotations

import sys

from lossd_server.backends.numba.backend import NumbaBackend
from lossd_server.backends.numba.warmup import rehearsal
from lossd_server.jobs.job import Launch

backend = NumbaBackend(1)
for job in rehearsal(sys.argv[1]):
    backend.run([Launch(job, 1.0)])
