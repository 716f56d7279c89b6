"""GitHub Actions: errors and warnings as annotations, where the command runs in a workflow."""

from __future__ import annotations

import os

ERROR, WARNING = "error", "warning"
_TITLE = "lossd eval"
# As the runner reads a message.
_ESCAPES = {"%": "%25", "\r": "%0D", "\n": "%0A"}


def annotated(line: str, level: str) -> str:
    """A line of stderr: as it is, or as the runner takes it for an annotation and shows it beside the workflow."""
    if os.environ.get("GITHUB_ACTIONS") != "true":
        return line
    sentence = line.removeprefix(f"{_TITLE}: ").removeprefix("warning: ")
    for character, code in _ESCAPES.items():
        sentence = sentence.replace(character, code)
    return f"::{level} title={_TITLE}::{sentence}"


def summary_file() -> str:
    """The file that the job's summary is written to, or ""."""
    return os.environ.get("GITHUB_STEP_SUMMARY", "")
