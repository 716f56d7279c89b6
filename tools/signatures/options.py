"""Every option of the clients' methods: type, default and meaning."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Option:
    """type and default: as in the signature, where None stands for the default too."""

    name: str
    type: str
    default: str
    meaning: str

    @property
    def optional(self) -> str:
        """The type with None."""
        return self.type if self.type.endswith("None") else f"{self.type} | None"


GRAD = "bool | TensorName | Iterable[TensorName]"
KINDS = ('"logits"', '"log_probabilities"', '"probabilities"', '"counts"')


def reduction(default: str = '"mean"', also: str = "") -> Option:
    kinds = f'Reduction | Literal["{also}"]' if also else "Reduction"
    meaning = 'how losses become one: "mean", "sum", or "none" for one loss each'
    return Option("reduction", kinds, default, f'{meaning}; "{also}": over dimension 0' if also else meaning)


def grad(*names: str) -> Option:
    listed = f"a name ({', '.join(names)}) or several" if len(names) > 1 else f"the name {names[0]}"
    meaning = f"True for the gradient by the input, in `result.grad`; or {listed}, in `result.grads`"
    return Option("grad", GRAD, "False", meaning)


def weight(meaning: str) -> Option:
    return Option("weight", "Tensor", "None", meaning)


def kind(default: str, *names: str) -> Option:
    taken = f"Literal[{', '.join(names)}]" if names else "Kind"
    return Option("kind", taken, default, f"what the input's numbers mean: {', '.join(names or KINDS)}")


CLASS_WEIGHT = weight("one weight for each class, of shape (C)")
ELEMENT_WEIGHT = weight("weights of elements; broadcast to the input's shape")
POS_WEIGHT = Option("pos_weight", "Tensor", "None", "weights of positive targets; broadcast to the input's shape")
ROW_WEIGHT = Option(
    "row_weight",
    "Tensor",
    "None",
    "one weight r for each row: its loss is r·l, and the mean's denominator counts it r times",
)
IGNORE_INDEX = Option("ignore_index", "int", "-100", "the class index of rows that are left out")
LABEL_SMOOTHING = Option(
    "label_smoothing", "float", "0.0", "share of the uniform distribution in the target, in [0, 1]"
)
TARGET_KIND = Option(
    "target_kind",
    "TargetKind",
    "None",
    'what the target\'s numbers mean: "indices", "probabilities", "counts"; by default its dtype tells',
)
KL_TARGET_KIND = Option(
    "target_kind", "Kind", "None", 'what the target\'s numbers mean, as `kind`: "probabilities" by default'
)
LOG_TARGET = Option("log_target", "bool", "False", 'PyTorch\'s: True is target_kind="log_probabilities"')
BASE = Option("base", "float", "None", "of the logarithm: nats by default, bits for 2")
DIM = Option("dim", "int", "None", "the class dimension; 1 by default, 0 for a 1-D input")
Z_LOSS = Option("z_loss", "float", "0.0", "κ ≥ 0: adds κ·(ln Σ exp x)² to the loss of each row")
SOFTCAP = Option("softcap", "float", "None", "k > 0: replaces logits x by k·tanh(x/k) first")
OUTPUTS = Option(
    "outputs",
    "Output | Iterable[Output]",
    "()",
    'more from the same pass, one entry a row, in `result.outputs`: "lse", "entropy", "argmax", "correct"',
)
ALL_LOSSES = (
    Option("grad_output", "Tensor", "None", "upstream gradient, of the loss's shape; ones by default"),
    Option("normalizer", "float", "None", "replaces the mean's denominator; finite and > 0"),
    Option("empty_mean", "EmptyMean", '"nan"', 'the mean over no kept row: "nan" or "zero"'),
    Option(
        "out",
        "Tensor | Mapping[TensorName, Tensor]",
        "None",
        "an array that the gradient is written into, or arrays by name; each of the gradient's shape and dtype",
    ),
)
LEGACY = (
    Option("size_average", "bool", "None", "PyTorch's, deprecated: False is a sum"),
    Option("reduce", "bool", "None", 'PyTorch\'s, deprecated: False is reduction="none"'),
)
PROGRESS = Option("progress", "Progress", "None", "called with the items sent so far and all of them, as they are sent")
TRANSPORT = Option(
    "transport",
    "Transport",
    '"auto"',
    'the way to the server: by size and place, or "unary", "stream", "shared_memory"',
)
TIMEOUT = Option(
    "timeout", "float", "None", "seconds for the call, for a stream seconds without progress; the client's by default"
)
