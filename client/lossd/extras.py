"""Optional dependencies: imported where they are first needed; where one is missing, what to install."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import Any

from lossd.command_error import CommandError


def need(module: str, purpose: str, extra: str = "cli") -> Any:
    """The module, or the sentence that says what to install. purpose: "reading .csv"."""
    try:
        return import_module(module)
    except ImportError as error:
        library = module.partition(".")[0]
        raise CommandError(f"{purpose} needs {library}: {install_hint(extra)} ({error})") from None


def have(module: str) -> Any:
    """The module, or None."""
    try:
        return import_module(module)
    except ImportError:
        return None


def install_hint(extra: str) -> str:
    """The command that installs `lossd[extra]` from where this lossd came from: a checkout, a folder, or an index."""
    import shlex

    checkout = Path(__file__).resolve().parents[2]
    if (checkout / "pyproject.toml").is_file() and (checkout / "client/lossd").is_dir():
        return f"pip install --editable {shlex.quote(f'{checkout}[{extra}]')}"
    folder = _installed_from()
    if folder is not None:
        return f"pip install {shlex.quote(f'{folder}[{extra}]')}"
    return f"pip install 'lossd[{extra}]'"


def _installed_from() -> Path | None:
    """The folder that pip was given, as pip recorded it (PEP 610), where it is still there."""
    import json
    from importlib import metadata
    from urllib.parse import urlsplit
    from urllib.request import url2pathname

    try:
        recorded = metadata.distribution("lossd").read_text("direct_url.json")
    except metadata.PackageNotFoundError:
        return None
    found = json.loads(recorded) if recorded else {}
    if "dir_info" not in found:
        return None
    folder = Path(url2pathname(urlsplit(found["url"]).path))
    return folder if (folder / "pyproject.toml").is_file() else None
