"""The wheel's name and needs: one interpreter, one kind of machine, and the versions that compiled its kernels.

It is built in the environment that compiled them (no isolation).
"""

from __future__ import annotations

import sys
from importlib.metadata import version
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface
from hatchling.metadata.plugin.interface import MetadataHookInterface


class Metadata(MetadataHookInterface):
    def update(self, metadata: dict[str, Any]) -> None:
        metadata["version"] = version("lossd")
        metadata["dependencies"] = [f"{name}=={version(name)}" for name in ("lossd", "numba", "llvmlite")]


class Build(BuildHookInterface[Any]):
    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        python = f"cp{sys.version_info.major}{sys.version_info.minor}"
        build_data["tag"] = f"{python}-{python}-manylinux_2_28_x86_64"  # machine code for numba's loader: no library
        build_data["pure_python"] = False
