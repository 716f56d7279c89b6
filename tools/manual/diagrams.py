"""Diagrams of a page, which hosts of repositories draw by a script: in the manual a picture, so that it needs none.

A picture has a name by its diagram's text, so that one of an older text is not shown. They are drawn by

    python tools/manual/diagrams.py

(`make diagrams`), which takes mermaid from npm and a headless Chromium.
"""

from __future__ import annotations

import hashlib
import html
import json
import posixpath
import re
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

MERMAID = "mermaid@11.17.2"
BLOCK = re.compile(r"^```mermaid\n(?P<text>.*?)^```$", re.MULTILINE | re.DOTALL)
PAGE = """<meta charset="utf-8"><script src="package/dist/mermaid.min.js"></script><pre id="out"></pre><script>
mermaid.initialize({startOnLoad: false, htmlLabels: false, flowchart: {htmlLabels: false}, theme: "neutral"});
mermaid.render("diagram", TEXT).then(({svg}) => {
  const drawn = new DOMParser().parseFromString(svg, "text/html").querySelector("svg");
  const [, , width, height] = drawn.getAttribute("viewBox").split(" ");
  drawn.setAttribute("width", width);
  drawn.setAttribute("height", height);
  document.getElementById("out").textContent = new XMLSerializer().serializeToString(drawn);
});
</script>"""
CHROMIUM = ("chromium", "--headless", "--no-sandbox", "--disable-gpu", "--allow-file-access-from-files", "--dump-dom")


def picture(text: str) -> str:
    """The file of a diagram, in docs/."""
    return f"pictures/diagram-{hashlib.sha256(text.encode()).hexdigest()[:12]}.svg"


def shown(markdown: str, page: str) -> str:
    """The page's text with pictures for its diagrams. page: its path in docs/.

    Where the picture is missing its link is a broken one, which the build complains of.
    """
    above = posixpath.relpath(".", posixpath.dirname(page) or ".")
    return BLOCK.sub(lambda block: f"![Diagram]({above}/{picture(block['text'])})", markdown)


def of_pages(docs: Path) -> Iterator[str]:
    for path in sorted(docs.rglob("*.md")):
        for block in BLOCK.finditer(path.read_text(encoding="utf-8")):
            yield block["text"]


def draw(text: str, folder: Path) -> str:
    """SVG. folder: where mermaid is unpacked."""
    (folder / "page.html").write_text(PAGE.replace("TEXT", json.dumps(text)), encoding="utf-8")
    options = ("--virtual-time-budget=10000", f"--user-data-dir={folder}/profile", f"file://{folder}/page.html")
    dom = subprocess.run([*CHROMIUM, *options], capture_output=True, text=True, check=True).stdout
    found = re.search(r'<pre id="out">(.+?)</pre>', dom, re.DOTALL)
    if found is None:
        raise RuntimeError(f"mermaid draws nothing of\n{text}")
    return html.unescape(found[1])


def main(docs: Path) -> None:
    texts = list(of_pages(docs))
    # Those of texts that are no more.
    for old in (docs / "pictures").glob("diagram-*.svg"):
        old.unlink()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        packed = subprocess.run(
            ["npm", "pack", "--silent", MERMAID], cwd=folder, capture_output=True, text=True, check=True
        )
        subprocess.run(["tar", "-xzf", packed.stdout.strip()], cwd=folder, check=True)
        for text in texts:
            (docs / picture(text)).write_text(draw(text, folder) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main(Path(__file__).resolve().parents[2] / "docs")
