"""Programs in processes of their own: what only a fresh interpreter shows."""

from __future__ import annotations

import os
import subprocess
import sys
from textwrap import dedent


def run(source: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Runs `source` with every warning shown; stdout and stderr are text."""
    environment = os.environ | {"PYTHONWARNINGS": "always", "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    return subprocess.run(
        [sys.executable, "-c", dedent(source), *arguments], env=environment, capture_output=True, text=True, check=False
    )
