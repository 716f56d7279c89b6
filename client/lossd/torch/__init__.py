"""PyTorch's losses, computed by a lossd server: `lossd.torch.functional` and `nn`, or without any change of code.

>>> with lossd.torch.remote(client):
...     loss = F.cross_entropy(model(x), y)
>>> loss.backward()

`set_client` says whom to ask where no client is named. `RemoteTensor` makes one tensor's losses remote.
"""

from __future__ import annotations

from lossd.extras import install_hint

try:
    import torch  # noqa: F401  # whether it is there
except ImportError as error:
    raise ImportError(f"lossd.torch needs PyTorch: {install_hint('torch')} ({error})") from error

from lossd.torch import functional, hf, nn
from lossd.torch.default_client import set_client
from lossd.torch.overrides import RemoteTensor, remote

__all__ = ["RemoteTensor", "functional", "hf", "nn", "remote", "set_client"]
