"""The thin client of lossd, a gRPC service that computes losses and their gradients.

>>> import lossd
>>> with lossd.Client("127.0.0.1:50051") as client:
...     loss = float(client.cross_entropy([[2.0, 1.0, 0.0]], [0]))

`Client` blocks; `lossd.aio.Client` has the same verbs, awaitable. Every failure is a `lossd.Error`.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

from lossd.version import __version__

if TYPE_CHECKING:
    import lossd.aio as aio
    from lossd.accumulator import Accumulator as Accumulator
    from lossd.client import Client as Client
    from lossd.errors import DeadlineExceeded as DeadlineExceeded
    from lossd.errors import Error as Error
    from lossd.errors import InternalError as InternalError
    from lossd.errors import InvalidArgument as InvalidArgument
    from lossd.errors import NotServed as NotServed
    from lossd.errors import Overloaded as Overloaded
    from lossd.errors import TooLarge as TooLarge
    from lossd.errors import Unauthenticated as Unauthenticated
    from lossd.errors import Unavailable as Unavailable
    from lossd.info import ServerInfo as ServerInfo
    from lossd.options import EmptyMean as EmptyMean
    from lossd.options import Kind as Kind
    from lossd.options import Output as Output
    from lossd.options import Reduction as Reduction
    from lossd.options import TargetKind as TargetKind
    from lossd.options import Tensor as Tensor
    from lossd.options import TensorName as TensorName
    from lossd.options import Transport as Transport
    from lossd.results import Result as Result
    from lossd.results import Summary as Summary
    from lossd.results import Timing as Timing

# Where each public name lives. Nothing is imported before it is used: the generated code under lossd.v1, which the
# server needs too, must not cost a gRPC channel's imports.
_HOMES = {
    "Accumulator": "lossd.accumulator",
    "Client": "lossd.client",
    "Result": "lossd.results",
    "Summary": "lossd.results",
    "Timing": "lossd.results",
    "ServerInfo": "lossd.info",
    "EmptyMean": "lossd.options",
    "Kind": "lossd.options",
    "Output": "lossd.options",
    "Reduction": "lossd.options",
    "TargetKind": "lossd.options",
    "Tensor": "lossd.options",
    "TensorName": "lossd.options",
    "Transport": "lossd.options",
    "Error": "lossd.errors",
    "InvalidArgument": "lossd.errors",
    "TooLarge": "lossd.errors",
    "Overloaded": "lossd.errors",
    "Unavailable": "lossd.errors",
    "DeadlineExceeded": "lossd.errors",
    "Unauthenticated": "lossd.errors",
    "NotServed": "lossd.errors",
    "InternalError": "lossd.errors",
}

__all__ = [
    "Accumulator",
    "Client",
    "DeadlineExceeded",
    "EmptyMean",
    "Error",
    "InternalError",
    "InvalidArgument",
    "Kind",
    "NotServed",
    "Output",
    "Overloaded",
    "Reduction",
    "Result",
    "ServerInfo",
    "Summary",
    "TargetKind",
    "Tensor",
    "TensorName",
    "Timing",
    "TooLarge",
    "Transport",
    "Unauthenticated",
    "Unavailable",
    "__version__",
    "aio",
]


def __getattr__(name: str) -> object:
    if name in ("aio", "torch"):
        return import_module(f"lossd.{name}")
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module 'lossd' has no attribute {name!r}")
    value: object = getattr(import_module(home), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
