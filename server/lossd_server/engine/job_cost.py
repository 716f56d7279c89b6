"""Job cost: about how long a job keeps a thread busy, and with it, what may be computed where.

The event loop computes what takes less than handing it over would; a batch, or a part of a huge job, takes no longer
than a cancelled one may go on.
"""

from __future__ import annotations

from lossd_server.backends import Backend
from lossd_server.jobs.conversion_cost import SAFETY
from lossd_server.jobs.job import Formula, Job

# Of a block or a stack that is computed on the event loop: less than reading it took.
INLINE_PART_NS = 150_000.0
# Of a batch or a part: cancelled, it is computed no further than this.
PART_NS = 20_000_000.0
# Nanoseconds a row: denominator, sum, unreduced loss and auxiliary outputs; an element of the answer; a class of the
# weight's gradient.
ROW_NS, ELEMENT_NS, CLASS_NS = 5.0, 1.0, 10.0


def job_ns(backend: Backend, job: Job) -> float:
    """Nanoseconds of conversion, kernels and answer, rather more than fewer."""
    layout, formula = job.layout, job.formula
    answered = job.input_gradient + job.target_gradient
    by_element = formula.elementwise or formula.activation or formula is Formula.KL_ROWS
    if by_element and job.keep_losses:
        answered += 1
    other = ELEMENT_NS * answered * layout.elements
    if not formula.elementwise:
        other += ROW_NS * layout.rows
    if job.weight_gradient:
        other += CLASS_NS * layout.classes
    return backend.kernel_ns(job) + job.conversion_ns + SAFETY * other
