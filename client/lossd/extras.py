"""Libraries that only `lossd[cli]` brings, imported where they are first needed."""

from __future__ import annotations

from importlib import import_module
from typing import Any

from lossd.command_error import CommandError


def need(module: str, purpose: str) -> Any:
    """The module, or the sentence that says what to install. purpose: "reading .csv"."""
    try:
        return import_module(module)
    except ImportError as error:
        library = module.partition(".")[0]
        raise CommandError(f"{purpose} needs {library}: pip install 'lossd[cli]' ({error})") from None


def have(module: str) -> Any:
    """The module, or None."""
    try:
        return import_module(module)
    except ImportError:
        return None
