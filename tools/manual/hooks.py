"""What the manual's build does with the pages of docs/, which are written to be read in the repository too."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import Any

# mkdocs loads this file by its path.
sys.path.insert(0, str(Path(__file__).parents[1]))

from mkdocs.structure.files import File

from manual import decisions, diagrams, formulas, leaving, notebook_page


def on_config(config: Any) -> None:
    """Writes the navigation's list of decisions: each page of the folder, by its own heading."""
    decisions.listed(config.nav, Path(config.docs_dir))


def on_files(files: Any, config: Any) -> None:
    """Notebooks become pages."""
    for path in sorted(Path(config.docs_dir).rglob("*.ipynb")):
        name = path.relative_to(config.docs_dir).with_suffix("").as_posix()
        files.remove(files.get_file_from_path(f"{name}.ipynb"))
        page = notebook_page.read(path)
        files.append(File.generated(config, f"{name}.md", content=page.markdown))
        for number, picture in enumerate(page.pictures):
            files.append(File.generated(config, f"{name}/{number}.svg", content=picture))


def on_page_markdown(markdown: str, page: Any, config: Any, **_: Any) -> str:
    """Formulas and diagrams are drawn; links out of the manual lead to the repository, or say the file's name."""
    text = leaving.rewritten(markdown, page.file.src_uri, Path(config.docs_dir), config.extra["files"] or "")
    text = re.sub(r"\]\(([^):\s]+)\.ipynb\)", r"](\1.md)", text)
    # What tests read after a block's language is no language's name here.
    text = diagrams.shown(text, page.file.src_uri)
    return formulas.rendered(re.sub(r"^(```\w+) .*$", r"\1", text, flags=re.MULTILINE))


def on_page_content(html: str, **_: Any) -> str:
    """Short code is kept on one line: browsers would break an option after its hyphens."""
    return re.sub(r"<code>([^<]{1,28})</code>", r'<code class="short">\1</code>', html)
