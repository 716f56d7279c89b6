"""The loss's dtype, and what PyTorch refuses by shape and dtype alone: PyTorch is asked, once for each kind of call.

A kind: dtypes, options, and which sizes are equal. PyTorch computes one tiny call of each on zeros.
"""

from __future__ import annotations

from functools import lru_cache

import torch
from torch import Tensor

from lossd.torch.refusal import Tensors, compute_locally
from lossd.torch.request import LossRequest

# Sizes stand for themselves up to here; larger ones by what they are equal to.
_SAID = 1

Kind = tuple[tuple[int, ...], torch.dtype] | None


def result_dtype(request: LossRequest, tensors: Tensors) -> torch.dtype:
    """PyTorch's. Raises what PyTorch raises of these tensors."""
    names: dict[int, int] = {}
    kinds = tuple(_kind(tensor, names) for tensor in tensors)
    try:
        return _of(request._replace(gradients="", client=0, normalizer=None), kinds)
    except (RuntimeError, ValueError, IndexError, TypeError):
        # For the sentence, which has sizes in it; or zeros are no targets here, and all is well.
        return compute_locally(request, tensors).dtype


def _kind(tensor: Tensor | None, names: dict[int, int]) -> Kind:
    """The same for tensors of the same dtypes and equalities of sizes: sizes are replaced by small numbers."""
    if tensor is None:
        return None
    shape = [size if size <= _SAID else names.setdefault(size, _SAID + 1 + len(names)) for size in tensor.shape]
    return tuple(shape), tensor.dtype


@lru_cache(maxsize=1024)
def _of(request: LossRequest, kinds: tuple[Kind, ...]) -> torch.dtype:
    zeros = [None if kind is None else torch.zeros(kind[0], dtype=kind[1]) for kind in kinds]
    return compute_locally(request, tuple(zeros)).dtype  # type: ignore[arg-type]  # four again
