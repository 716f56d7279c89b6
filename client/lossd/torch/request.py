"""A loss as it is asked for, without its tensors."""

from __future__ import annotations

from typing import NamedTuple

CROSS_ENTROPY, NLL = "cross_entropy", "nll_loss"
BCE, BCE_WITH_LOGITS = "binary_cross_entropy", "binary_cross_entropy_with_logits"
KL_DIV = "kl_div"


class LossRequest(NamedTuple):
    """A tuple, since Dynamo traces these and functorch looks into them. Names and defaults are PyTorch's.

    loss: its name in torch.nn.functional. normalizer: replaces mean's denominator. as_float32: as if 16-bit tensors
    had been converted to float32, as autocast does, but without the copies. gradients: of which tensors, as words.
    client: its number.
    """

    loss: str
    reduction: str = "mean"
    ignore_index: int = -100
    label_smoothing: float = 0.0
    log_target: bool = False
    normalizer: float | None = None
    as_float32: bool = False
    gradients: str = ""
    client: int = 0

    @property
    def has_classes(self) -> bool:
        """Whether dimension 1 of the input is no dimension of the losses."""
        return self.loss in (CROSS_ENTROPY, NLL)
