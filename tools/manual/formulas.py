"""Formulas of a page, from TeX to MathML, which browsers draw without a script or a font of another host."""

from __future__ import annotations

import re

from latex2mathml.converter import convert

BLOCK = re.compile(r"^```math\n(?P<tex>.*?)\n```$", re.MULTILINE | re.DOTALL)


def rendered(markdown: str) -> str:
    """The page's text with its ```math blocks drawn. What \\qquad parts may go below each other on a narrow screen."""
    return BLOCK.sub(lambda block: _drawn(block["tex"]), markdown)


def _drawn(tex: str) -> str:
    parts = [" ".join(part.split()) for part in tex.split(r"\qquad")]
    drawn = "".join(f"<div>{convert(part, display='block')}</div>" for part in parts)
    return f'<div class="formula">{drawn}</div>'
