"""What the answers are, in 50 digits, from the closed forms that the tests hold the server to."""

from __future__ import annotations

from exactness.samples import Sample
from tests.oracle.bce_with_logits import element
from tests.oracle.exact import ONE, ZERO, Number, decode, times, total
from tests.oracle.softmax import softmax

# Quantity → its entries in C order.
Truth = dict[str, list[Number]]

QUANTITIES = {
    "cross_entropy": "cross-entropy: loss",
    "cross_entropy_gradient": "cross-entropy: gradient",
    "bce_with_logits": "BCE with logits: loss",
    "bce_with_logits_gradient": "BCE with logits: gradient",
    "entropy": "entropy from logits",
    "log_softmax": "log-softmax",
    "kl_divergence": "KL divergence of softmaxes",
}


def truth(sample: Sample) -> Truth:
    """Losses one a row (an element), gradients and log-softmax one an entry."""
    found: Truth = {quantity: [] for quantity in QUANTITIES}
    for row, label, rival in zip(decode(sample.x), sample.y, decode(sample.other), strict=True):
        p, q = softmax(list(row)), softmax(list(rival))
        one_hot = [ONE if c == label else ZERO for c in range(len(row))]
        found["cross_entropy"].append(p.surprise[label])
        found["cross_entropy_gradient"] += p.gradient(one_hot)
        found["entropy"].append(total(times(a, b) for a, b in zip(p.p, p.surprise, strict=True)))
        found["log_softmax"] += [-value for value in p.surprise]
        found["kl_divergence"].append(
            total(times(a, v - u) for a, u, v in zip(p.p, p.surprise, q.surprise, strict=True))
        )
    for z, t in zip(decode(sample.z), decode(sample.t), strict=True):
        loss, gradient, _ = element(z, t, ONE, ONE)
        found["bce_with_logits"].append(loss)
        found["bce_with_logits_gradient"].append(gradient)
    return {quantity: entries for quantity, entries in found.items() if entries}
