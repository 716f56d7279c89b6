"""Programs in processes of their own: what only a fresh interpreter shows."""

from __future__ import annotations

import os
import subprocess
import sys
from textwrap import dedent

from tests.waiting import WAIT_S


def run(source: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Runs `source` with every warning shown, until it ends; stdout and stderr are text."""
    environment = os.environ | {"PYTHONWARNINGS": "always", "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    command = [sys.executable, "-c", dedent(source), *arguments]
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=2 * WAIT_S, check=False)
