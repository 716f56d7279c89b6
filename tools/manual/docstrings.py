"""What the API reference does with the signatures and docstrings that it reads."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import griffe

# griffe loads this file by its path.
sys.path.insert(0, str(Path(__file__).parents[1]))

from manual.docstring_text import markdown


class Docstrings(griffe.Extension):  # type: ignore[misc]  # griffe is not in the environment of checks
    """Rewrites every docstring that is read, and says constants of a signature by their values."""

    def on_object(self, *, obj: griffe.Object, **_: Any) -> None:
        if obj.docstring is not None:
            obj.docstring.value = markdown(obj.docstring.value)
        if isinstance(obj, griffe.Function):
            for parameter in obj.parameters:
                constant = obj.module.members.get(str(parameter.default))
                if isinstance(constant, griffe.Attribute) and constant.value is not None:
                    parameter.default = constant.value
            # Names that are no option: a type checker sees them so, and the call refuses them.
            if "unknown" in obj.parameters:
                del obj.parameters["unknown"]
