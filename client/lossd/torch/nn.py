"""torch.nn's loss modules, computed by a lossd server. Arguments, buffers and state dicts are those of torch.nn.

client: the lossd.Client that is asked; without one, that of `lossd.torch.set_client`, or one for LOSSD_SERVER. A copy
of a module has its client. A pickled one, as torch.save writes it, has none: set `module.client` after loading, or
leave it to the default client. `module.to(…)` moves weights alone.
"""

from __future__ import annotations

from copy import deepcopy
from typing import Any, Self

import torch
from torch import Tensor

from lossd.client import Client
from lossd.torch import functional
from lossd.torch.default_client import number_of


class _Remote(torch.nn.Module):
    """What the modules have in common: their client, and what becomes of it."""

    _client: Client | None = None

    @property
    def client(self) -> Client | None:
        return self._client

    @client.setter
    def client(self, client: Client | None) -> None:
        number_of(client)
        self._client = client

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in self.__dict__.items() if name != "_client"}

    def __copy__(self) -> Self:
        copy = type(self).__new__(type(self))
        copy.__dict__.update(self.__dict__)
        return copy

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        copy = type(self).__new__(type(self))
        memo[id(self)] = copy
        copy.__dict__.update(deepcopy(self.__getstate__(), memo))
        copy._client = self._client
        return copy

    def extra_repr(self) -> str:
        return "" if self._client is None else f"client={self._client!r}"


class CrossEntropyLoss(_Remote, torch.nn.CrossEntropyLoss):
    """torch.nn.CrossEntropyLoss."""

    def __init__(
        self,
        weight: Tensor | None = None,
        size_average: bool | None = None,
        ignore_index: int = -100,
        reduce: bool | None = None,
        reduction: str = "mean",
        label_smoothing: float = 0.0,
        *,
        client: Client | None = None,
    ) -> None:
        super().__init__(weight, size_average, ignore_index, reduce, reduction, label_smoothing)
        self.client = client

    def forward(self, input: Tensor, target: Tensor) -> Tensor:
        return functional.cross_entropy(
            input,
            target,
            self.weight,
            ignore_index=self.ignore_index,
            reduction=self.reduction,
            label_smoothing=self.label_smoothing,
            client=self._client,
        )


class NLLLoss(_Remote, torch.nn.NLLLoss):
    """torch.nn.NLLLoss."""

    def __init__(
        self,
        weight: Tensor | None = None,
        size_average: bool | None = None,
        ignore_index: int = -100,
        reduce: bool | None = None,
        reduction: str = "mean",
        *,
        client: Client | None = None,
    ) -> None:
        super().__init__(weight, size_average, ignore_index, reduce, reduction)
        self.client = client

    def forward(self, input: Tensor, target: Tensor) -> Tensor:
        return functional.nll_loss(
            input,
            target,
            self.weight,
            ignore_index=self.ignore_index,
            reduction=self.reduction,
            client=self._client,
        )


class BCELoss(_Remote, torch.nn.BCELoss):
    """torch.nn.BCELoss."""

    def __init__(
        self,
        weight: Tensor | None = None,
        size_average: bool | None = None,
        reduce: bool | None = None,
        reduction: str = "mean",
        *,
        client: Client | None = None,
    ) -> None:
        super().__init__(weight, size_average, reduce, reduction)
        self.client = client

    def forward(self, input: Tensor, target: Tensor) -> Tensor:
        return functional.binary_cross_entropy(
            input, target, self.weight, reduction=self.reduction, client=self._client
        )


class BCEWithLogitsLoss(_Remote, torch.nn.BCEWithLogitsLoss):
    """torch.nn.BCEWithLogitsLoss."""

    def __init__(
        self,
        weight: Tensor | None = None,
        size_average: bool | None = None,
        reduce: bool | None = None,
        reduction: str = "mean",
        pos_weight: Tensor | None = None,
        *,
        client: Client | None = None,
    ) -> None:
        super().__init__(weight, size_average, reduce, reduction, pos_weight)
        self.client = client

    def forward(self, input: Tensor, target: Tensor) -> Tensor:
        return functional.binary_cross_entropy_with_logits(
            input,
            target,
            self.weight,
            reduction=self.reduction,
            pos_weight=self.pos_weight,
            client=self._client,
        )


class KLDivLoss(_Remote, torch.nn.KLDivLoss):
    """torch.nn.KLDivLoss."""

    def __init__(
        self,
        size_average: bool | None = None,
        reduce: bool | None = None,
        reduction: str = "mean",
        log_target: bool = False,
        *,
        client: Client | None = None,
    ) -> None:
        super().__init__(size_average, reduce, reduction, log_target)
        self.client = client

    def forward(self, input: Tensor, target: Tensor) -> Tensor:
        return functional.kl_div(
            input, target, reduction=self.reduction, log_target=self.log_target, client=self._client
        )
