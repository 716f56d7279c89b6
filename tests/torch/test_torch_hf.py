"""transformers' loss of a causal language model, by lossd: beside what transformers computes, written out."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import lossd
import lossd.torch
import lossd.torch.hf
from tests.torch.losses import backward
from tests.torch.routes import calls

VOCABULARY = 11


def transformers(
    logits: Tensor,
    labels: Tensor,
    vocab_size: int,
    num_items_in_batch: Tensor | float | None = None,
    ignore_index: int = -100,
    shift_labels: Tensor | None = None,
) -> Tensor:
    """Logits to float32, labels shifted by one, the mean, or the sum over num_items_in_batch."""
    wide = logits.float()
    if shift_labels is None:
        shift_labels = F.pad(labels, (0, 1), value=ignore_index)[..., 1:]
    reduction = "mean" if num_items_in_batch is None else "sum"
    rows, targets = wide.view(-1, vocab_size), shift_labels.reshape(-1)
    loss = F.cross_entropy(rows, targets, ignore_index=ignore_index, reduction=reduction)
    return loss if num_items_in_batch is None else loss / num_items_in_batch


def batch(dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(6)
    logits = torch.randn(2, 7, VOCABULARY, generator=generator).to(dtype)
    labels = torch.randint(VOCABULARY, (2, 7), generator=generator)
    labels[0, :3] = -100
    return logits, labels


OPTIONS: dict[str, dict[str, Any]] = {
    "mean": {},
    "a number of items": {"num_items_in_batch": 23},
    "a tensor of items": {"num_items_in_batch": torch.tensor(23)},
    "another ignore_index": {"ignore_index": 3},
    "shifted labels": {"shift_labels": torch.arange(14).reshape(2, 7) % VOCABULARY},
}


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32], ids=str)
@pytest.mark.parametrize("name", OPTIONS)
def test_the_loss_is_transformers(client: lossd.Client, name: str, dtype: torch.dtype) -> None:
    """Loss and gradient have transformers' dtypes and values; 16-bit logits are sent as they are, in one call."""
    logits, labels = batch(dtype)
    ignored = labels.where(labels != -100, 3) if "ignore_index" in OPTIONS[name] else labels
    found = []
    for compute in (lossd.torch.hf.causal_lm_loss(client), transformers):
        leaf = logits.clone().requires_grad_()
        before = calls(client)
        loss = compute(logits=leaf, labels=ignored, vocab_size=VOCABULARY, **OPTIONS[name])
        (gradient,) = torch.autograd.grad(loss * 3, leaf)
        found.append((loss.detach(), gradient))

        assert calls(client) - before == int(compute is not transformers)
    for ours, theirs in zip(*found, strict=True):
        torch.testing.assert_close(ours, theirs)


class Model(nn.Module):
    """The seam of transformers' PreTrainedModel: `loss_function` may be set, and is called with keywords."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(7)
        self.embed, self.head = nn.Embedding(VOCABULARY, 8), nn.Linear(8, VOCABULARY)
        self.loss_function: Any = transformers

    def forward(self, tokens: Tensor, labels: Tensor, **keywords: Any) -> Tensor:
        found: Tensor = self.loss_function(
            logits=self.head(self.embed(tokens)), labels=labels, vocab_size=VOCABULARY, **keywords
        )
        return found


def test_accumulated_steps_are_one_large_one(client: lossd.Client) -> None:
    """num_items_in_batch makes two halves of a batch add up to the whole: the reason why transformers passes it."""
    _, labels = batch(torch.float32)
    tokens, items = labels.clamp(min=0), int((labels[:, 1:] != -100).sum())
    model = Model()
    backward(model(tokens, labels))
    whole = [parameter.grad.clone() for parameter in model.parameters() if parameter.grad is not None]
    model.zero_grad()
    model.loss_function = lossd.torch.hf.causal_lm_loss(client)
    for half in (slice(0, 1), slice(1, 2)):
        backward(model(tokens[half], labels[half], num_items_in_batch=items))

    for parameter, expected in zip(model.parameters(), whole, strict=True):
        torch.testing.assert_close(parameter.grad, expected)


@pytest.mark.parametrize("backend", ["eager", "aot_eager"])
def test_a_compiled_model(client: lossd.Client, backend: str) -> None:
    """fullgraph=True through the seam, with and without num_items_in_batch."""
    _, labels = batch(torch.float32)
    tokens, model = labels.clamp(min=0), Model()
    expected = [model(tokens, labels).detach(), model(tokens, labels, num_items_in_batch=torch.tensor(5)).detach()]
    model.loss_function = lossd.torch.hf.causal_lm_loss(client)
    compiled = torch.compile(model, fullgraph=True, backend=backend)

    torch.testing.assert_close(compiled(tokens, labels), expected[0])
    torch.testing.assert_close(compiled(tokens, labels, num_items_in_batch=torch.tensor(5)), expected[1])


def test_all_labels_ignored(client: lossd.Client) -> None:
    """NaN for the mean, as PyTorch's; 0 where the number of items was given."""
    logits, labels = batch(torch.bfloat16)
    loss = lossd.torch.hf.causal_lm_loss(client)
    none = torch.full_like(labels, -100)

    assert loss(logits=logits, labels=none, vocab_size=VOCABULARY).isnan()
    assert loss(logits=logits, labels=none, vocab_size=VOCABULARY, num_items_in_batch=4) == 0
