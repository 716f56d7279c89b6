"""The oracle: every loss as a closed form in 50 digits, on the inputs exactly as they are stored.

One file a loss. Each function takes the tensors and options of the client's method of that name and gives a
`Reference`: loss, gradients and summary as arrays of mpmath numbers, nothing rounded. Written from the mathematics
alone: it imports neither the server nor PyTorch, and it is slow (about 10 µs a number).
"""

from __future__ import annotations

from collections.abc import Callable

from tests.oracle import activation
from tests.oracle.bce import bce
from tests.oracle.bce_with_logits import bce_with_logits
from tests.oracle.cross_entropy import cross_entropy
from tests.oracle.entropy import entropy
from tests.oracle.kl_divergence import kl_divergence
from tests.oracle.nll import nll
from tests.oracle.reducing import Reference
from tests.oracle.self_information import self_information

# The client's method → its reference.
REFERENCES: dict[str, Callable[..., Reference]] = {
    "cross_entropy": cross_entropy,
    "bce": bce,
    "bce_with_logits": bce_with_logits,
    "entropy": entropy,
    "kl_divergence": kl_divergence,
    "nll": nll,
    "self_information": self_information,
    "softmax": activation.softmax,
    "log_softmax": activation.log_softmax,
    "sigmoid": activation.sigmoid_of,
    "log_sigmoid": activation.log_sigmoid,
}
