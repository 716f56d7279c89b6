"""transformers: a causal language model's loss by a lossd server.

>>> model.loss_function = lossd.torch.hf.causal_lm_loss(client)
"""

from __future__ import annotations

from typing import Any, Protocol

import torch
from torch import Tensor

from lossd.client import Client
from lossd.torch.default_client import number_of
from lossd.torch.dispatch import remote_loss
from lossd.torch.request import CROSS_ENTROPY, LossRequest


class CausalLMLoss(Protocol):
    """What transformers calls, with keywords."""

    def __call__(
        self,
        logits: Tensor,
        labels: Tensor | None,
        vocab_size: int,
        num_items_in_batch: Tensor | float | None = None,
        ignore_index: int = -100,
        shift_labels: Tensor | None = None,
        **kwargs: Any,
    ) -> Tensor: ...


def causal_lm_loss(client: Client | None = None) -> CausalLMLoss:
    """transformers' ForCausalLMLoss: what a model's `loss_function` is.

    logits (…, T, vocab_size) of any float dtype, sent as they are: the server computes in float32, and the loss is
    float32, the gradient of the logits' dtype. labels (…, T) are shifted by one; shift_labels have been already. The
    mean over tokens, or the sum divided by num_items_in_batch. Other keywords are not read, as in transformers.
    """
    number_of(client)  # a wrong one is told here

    def loss_function(
        logits: Tensor,
        labels: Tensor | None,
        vocab_size: int,
        num_items_in_batch: Tensor | float | None = None,
        ignore_index: int = -100,
        shift_labels: Tensor | None = None,
        **kwargs: Any,
    ) -> Tensor:
        del kwargs
        if shift_labels is None:
            if labels is None:
                raise ValueError("causal_lm_loss needs labels or shift_labels")
            shift_labels = torch.nn.functional.pad(labels, (0, 1), value=ignore_index)[..., 1:]
        rows = logits.reshape(-1, vocab_size)
        targets = shift_labels.reshape(-1).to(logits.device)
        request = LossRequest(CROSS_ENTROPY, ignore_index=ignore_index, as_float32=True, client=number_of(client))
        if num_items_in_batch is None:
            return remote_loss(request, rows, targets)
        if isinstance(num_items_in_batch, Tensor):
            # Divided here: it need not be read, and may be a graph's.
            return remote_loss(request._replace(reduction="sum"), rows, targets) / num_items_in_batch.to(logits.device)
        return remote_loss(request._replace(normalizer=float(num_items_in_batch)), rows, targets)

    return loss_function
