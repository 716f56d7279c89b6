"""Every method of the clients: what it computes, what its tensors are, which options it takes."""

from __future__ import annotations

from dataclasses import dataclass

from signatures import options as opt
from signatures.options import Option


@dataclass(frozen=True, slots=True)
class Method:
    """text: the docstring's first part, a line a line. activation: gives the values alone."""

    name: str
    tensors: tuple[str, ...]
    text: str
    options: tuple[Option, ...]
    activation: bool = False


def loss(name: str, tensors: tuple[str, ...], text: str, *options: Option, legacy: bool = True) -> Method:
    old = opt.LEGACY if legacy else ()
    return Method(name, tensors, text, (*options, *opt.ALL_LOSSES, *old, opt.TRANSPORT, opt.PROGRESS, opt.TIMEOUT))


def activation(name: str, text: str, *options: Option) -> Method:
    return Method(name, ("input",), text, (*options, opt.TRANSPORT, opt.TIMEOUT), activation=True)


ONE, TWO = ("input",), ("input", "target")

METHODS = (
    loss(
        "entropy",
        ONE,
        """Shannon entropy of every row: H = −Σ p·log_b p (torch.distributions.Categorical.entropy).

input: float, at least 1-D: probabilities p; logits or counts (integers too) where `kind` says so.
""",
        opt.kind('"probabilities"', '"probabilities"', '"logits"', '"counts"'),
        opt.BASE,
        opt.DIM,
        opt.ROW_WEIGHT,
        opt.reduction(),
        opt.grad('"input"'),
        legacy=False,
    ),
    loss(
        "cross_entropy",
        TWO,
        """Cross-entropy between logits and targets (torch.nn.functional.cross_entropy).

l = −w[y]·log softmax(x)[y] for indices y; −Σ w·t·log softmax(x) for distributions t. In nats, or by `base`.
input: float (C), (N, C) or (N, C, d1 … dk): classes are dimension 1. target: integer (), (N) or (N, d1 … dk), each
in [0, C) or ignore_index; or float of the input's shape. The mean's denominator is Σ w[y] over kept rows for indices,
the number of rows for distributions. Gradients of target and weight exist for distributions.
""",
        opt.CLASS_WEIGHT,
        opt.ROW_WEIGHT,
        opt.IGNORE_INDEX,
        opt.LABEL_SMOOTHING,
        opt.reduction(),
        opt.grad('"input"', '"target"', '"weight"'),
        opt.kind('"logits"'),
        opt.TARGET_KIND,
        opt.BASE,
        opt.Z_LOSS,
        opt.SOFTCAP,
        opt.OUTPUTS,
    ),
    loss(
        "bce",
        TWO,
        """Binary cross-entropy of probabilities, element by element (torch.nn.functional.binary_cross_entropy).

l = −w·[t·max(ln p, −100) + (1−t)·max(ln(1−p), −100)], in nats; the mean is over elements.
input: float of any shape, in [0, 1]. target: of the same shape, in [0, 1]; float, bool or integer.
""",
        opt.ELEMENT_WEIGHT,
        opt.reduction(),
        opt.grad('"input"', '"target"'),
    ),
    loss(
        "bce_with_logits",
        TWO,
        """Binary cross-entropy of logits (torch.nn.functional.binary_cross_entropy_with_logits).

l = w·[pw·t·ln(1 + exp(−x)) + (1−t)·ln(1 + exp x)], in nats; the mean is over elements.
input: float of any shape. target: of the same shape; float, bool or integer.
""",
        opt.ELEMENT_WEIGHT,
        opt.POS_WEIGHT,
        opt.reduction(),
        opt.grad('"input"', '"target"'),
    ),
    loss(
        "kl_divergence",
        TWO,
        """Kullback–Leibler divergence, element by element (torch.nn.functional.kl_div).

l = p·(ln p − ln q): q is the input, as log-probabilities unless `kind` says otherwise; p is the target, as
probabilities unless `target_kind` or log_target=True do. The mean is over elements; reduction="batchmean" over
dimension 0, which is the divergence's definition.
input: float of any shape, counts integers too. target: of the same shape, likewise.
""",
        opt.reduction(also="batchmean"),
        opt.grad('"input"', '"target"'),
        opt.kind('"log_probabilities"'),
        opt.KL_TARGET_KIND,
        opt.LOG_TARGET,
        opt.BASE,
    ),
    loss(
        "nll",
        TWO,
        """Negative log-likelihood: l = −w[y]·u[y] (torch.nn.functional.nll_loss).

input: log-probabilities u, float (C), (N, C) or (N, C, d1 … dk): classes are dimension 1. target: integer (), (N) or
(N, d1 … dk), each in [0, C) or ignore_index. The mean's denominator is Σ w[y] over kept rows.
""",
        opt.CLASS_WEIGHT,
        opt.IGNORE_INDEX,
        opt.reduction(),
        opt.grad('"input"'),
    ),
    loss(
        "self_information",
        ONE,
        """Self-information of every probability: −log_b p; not reduced by default.

input: float of any shape.
""",
        opt.BASE,
        opt.reduction('"none"'),
        opt.grad('"input"'),
        legacy=False,
    ),
    activation(
        "softmax",
        """exp(x) / Σ exp(x) along the class dimension (torch.nn.functional.softmax).

input: float of any shape. The answer has its shape, dtype and kind of array.
""",
        opt.DIM,
    ),
    activation(
        "log_softmax",
        """x − ln Σ exp(x) along the class dimension (torch.nn.functional.log_softmax).

input: float of any shape. The answer has its shape, dtype and kind of array.
""",
        opt.DIM,
    ),
    activation(
        "sigmoid",
        """1 / (1 + exp(−x)) of every element (torch.nn.functional.sigmoid).

input: float of any shape. The answer has its shape, dtype and kind of array.
""",
    ),
    activation(
        "log_sigmoid",
        """−ln(1 + exp(−x)) of every element (torch.nn.functional.logsigmoid).

input: float of any shape. The answer has its shape, dtype and kind of array.
""",
    ),
)
