"""What to install where a library is missing."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest

from tests.client.programs import run

ROOT = Path(__file__).resolve().parents[2]
# A package `lossd` that holds what the hint needs, and nothing else of a checkout.
INSTALLED = ("__init__.py", "extras.py", "command_error.py", "version.py")


def installed(site: Path, direct_url: Mapping[str, object] | None) -> str:
    """The hint of a lossd that lies in `site`, as pip leaves it: with a record of where it came from, or without."""
    for name in INSTALLED:
        target = site / "lossd" / name
        target.parent.mkdir(exist_ok=True)
        target.write_bytes((ROOT / "client/lossd" / name).read_bytes())
    record = site / "lossd-0.1.0.dist-info"
    record.mkdir()
    (record / "METADATA").write_text("Metadata-Version: 2.1\nName: lossd\nVersion: 0.1.0\n")
    if direct_url is not None:
        (record / "direct_url.json").write_text(json.dumps(direct_url))
    source = (
        f"import sys; sys.path.insert(0, {str(site)!r}); from lossd.extras import install_hint as h; print(h('cli'))"
    )
    done = subprocess.run([sys.executable, "-I", "-S", "-c", source], capture_output=True, text=True, check=True)
    return done.stdout.strip()


def test_a_checkout_is_installed_from_its_folder() -> None:
    """It may not be in any index, and an index would have another version."""
    done = run("from lossd.extras import install_hint; print(install_hint('server'))")

    assert done.stdout == f"pip install --editable '{ROOT}[server]'\n"


def test_what_came_from_a_folder_is_installed_from_there(tmp_path: Path) -> None:
    """As long as the folder is there: an image's build has left none."""
    record = {"url": ROOT.as_uri(), "dir_info": {}}
    site, gone = tmp_path / "site", tmp_path / "gone"
    site.mkdir()
    gone.mkdir()

    assert installed(site, record) == f"pip install '{ROOT}[cli]'"
    assert installed(gone, {**record, "url": (tmp_path / "nowhere").as_uri()}) == "pip install 'lossd[cli]'"


@pytest.mark.parametrize("record", [None, {"url": "https://example.org/lossd.whl", "archive_info": {}}])
def test_what_came_from_an_index_is_installed_by_name(record: Mapping[str, object] | None, tmp_path: Path) -> None:
    """So is what came as a file."""
    assert installed(tmp_path, record) == "pip install 'lossd[cli]'"
