"""A notebook as a page of the manual: its texts, its code, and what the code printed and drew."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path


@dataclass
class Page:
    """markdown: links its pictures as NAME/0.svg, NAME/1.svg, …, NAME being the notebook's. pictures: SVG."""

    markdown: str
    pictures: list[str] = field(default_factory=list)


def read(path: Path) -> Page:
    """The page of a notebook in nbformat 4 whose outputs are texts and SVG."""
    parts: list[str] = []
    pictures: list[str] = []
    for cell in json.loads(path.read_text(encoding="utf-8"))["cells"]:
        source = "".join(cell["source"])
        if cell["cell_type"] == "markdown":
            parts.append(source)
            continue
        parts.append(f"```python\n{source}\n```")
        for output in cell["outputs"]:
            if "text" in output:
                parts.append(f"```text\n{''.join(output['text']).rstrip()}\n```")
            else:
                data = output["data"]
                parts.append(f"![{''.join(data['text/plain'])}]({path.stem}/{len(pictures)}.svg)")
                pictures.append("".join(data["image/svg+xml"]))
    return Page("\n\n".join(parts) + "\n", pictures)
