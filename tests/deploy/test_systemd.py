"""The unit of systemd: systemd takes it, and its command and variables are lossd's."""

from __future__ import annotations

import configparser
import re
import shlex
import shutil
import subprocess
from pathlib import Path

import pytest

from lossd_server.config.settings import Settings

UNIT = Path(__file__).parents[2] / "deploy/systemd/lossd.service"


def unit() -> configparser.ConfigParser:
    parsed = configparser.ConfigParser(interpolation=None)
    parsed.optionxform = str  # type: ignore[assignment,method-assign]  # names have capitals
    parsed.read(UNIT, encoding="utf-8")
    return parsed


def test_systemd_takes_it(tmp_path: Path) -> None:
    """Every line, with a command that is there."""
    analyze = shutil.which("systemd-analyze")
    lossd = shutil.which("true")
    if analyze is None or lossd is None:
        pytest.skip("systemd-analyze is not here")
    copy = tmp_path / "lossd.service"
    copy.write_text(UNIT.read_text(encoding="utf-8").replace("/opt/lossd/bin/lossd", lossd), encoding="utf-8")
    done = subprocess.run([analyze, "verify", copy], capture_output=True, text=True, check=False)

    assert (done.returncode, done.stderr) == (0, "")


def test_its_command_and_variables_are_lossds() -> None:
    """`lossd serve`, which waits for its drain less long than systemd does; every LOSSD_ variable is a setting."""
    service = unit()["Service"]
    names = set(re.findall(r"\bLOSSD_([A-Z_]+)=", UNIT.read_text(encoding="utf-8"))) - {"CACHE_DIR"}

    assert shlex.split(service["ExecStart"])[1:] == ["serve"]
    assert float(service["TimeoutStopSec"]) > Settings().drain_s
    assert {name.lower() for name in names} <= set(Settings.__dataclass_fields__)
    assert service["CacheDirectory"] in service["Environment"]
